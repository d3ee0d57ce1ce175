// Python's two string formatters: "%s" % value and "{}".format(value).
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "jinja/interpreter.h"
#include "jinja/repr.h"
#include "jinja/text_ops.h"
#include "jinja/unicode.h"

namespace mach::jinja {

namespace {

constexpr int64_t kMaxWidth = 1 << 20;
constexpr int kMaxPrecision = 400;

struct Spec {
  std::string fill = " ";
  char align = 0;  // < > = ^
  char sign = 0;   // + or space
  bool alternate = false;
  bool zero = false;
  char group = 0;  // , or _
  int64_t width = 0;
  int precision = -1;
  char type = 0;
};

std::string AsciiRepr(const Value& value) {
  std::string out;
  const std::string text = Repr(value);
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = DecodeAt(text, i);
    if (c.value < 0x80) {
      out += text[i];
    } else {
      std::array<char, 16> buffer{};
      std::snprintf(buffer.data(), buffer.size(),
                    c.value < 0x100     ? "\\x%02x"
                    : c.value < 0x10000 ? "\\u%04x"
                                        : "\\U%08x",
                    static_cast<unsigned>(c.value));
      out += buffer.data();
    }
    i += c.size_bytes;
  }
  return out;
}

std::string IntDigits(uint64_t magnitude, int base, bool upper) {
  std::array<char, 72> buffer{};
  const auto [end, error] =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), magnitude, base);
  std::string digits(buffer.data(), end);
  if (upper) {
    for (char& c : digits) {
      c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
    }
  }
  return digits;
}

std::string FloatDigits(double magnitude, char type, int precision, bool alternate) {
  const std::string format = std::string("%") + (alternate ? "#" : "") + ".*" + type;
  std::vector<char> buffer(static_cast<size_t>(std::max(precision, 0)) + 340);
  const int size =
      std::snprintf(buffer.data(), buffer.size(), format.c_str(), precision, magnitude);
  return std::string(buffer.data(), size);
}

// Digits in groups of three, counted from the point or the end.
std::string Grouped(const std::string& number, char separator) {
  size_t whole = 0;
  while (whole < number.size() && number[whole] >= '0' && number[whole] <= '9') {
    ++whole;
  }
  std::string out;
  for (size_t i = 0; i < whole; ++i) {
    if (i > 0 && (whole - i) % 3 == 0) {
      out += separator;
    }
    out += number[i];
  }
  return out + number.substr(whole);
}

std::string Finish(std::string text, const std::string& sign, const Spec& spec, char align) {
  if (spec.width > kMaxWidth) {
    FailLimit("chat template formats to a width of " + std::to_string(spec.width));
  }
  if (align == '=') {
    return sign + Pad(text, spec.width - static_cast<int64_t>(sign.size()), spec.fill, 1, 1);
  }
  text = sign + text;
  if (align == '^') {
    const int64_t missing = spec.width - CountCodePoints(text);
    return missing <= 0 ? text
                        : Pad(Pad(text, CountCodePoints(text) + missing / 2, spec.fill, 1, 1),
                              spec.width, spec.fill, 0, 1);
  }
  return Pad(text, spec.width, spec.fill, align == '>' ? 1 : 0, 1);
}

std::string SignOf(bool negative, const Spec& spec) {
  return negative ? "-" : spec.sign == 0 ? "" : std::string(1, spec.sign);
}

std::string FormatInteger(int64_t value, const Spec& spec, char align) {
  const uint64_t magnitude =
      value < 0 ? -static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
  const int base = spec.type == 'x' || spec.type == 'X' ? 16
                   : spec.type == 'o'                   ? 8
                   : spec.type == 'b'                   ? 2
                                                        : 10;
  std::string digits = IntDigits(magnitude, base, spec.type == 'X');
  if (spec.group != 0) {
    digits = Grouped(digits, spec.group);
  }
  if (spec.precision > static_cast<int>(digits.size())) {
    digits.insert(0, spec.precision - digits.size(), '0');
  }
  std::string sign = SignOf(value < 0, spec);
  if (spec.alternate && base != 10) {
    sign += std::string("0") + spec.type;
  }
  return Finish(digits, sign, spec, align);
}

std::string FormatFloat(double value, const Spec& spec, char align) {
  const double magnitude = std::fabs(value);
  std::string digits;
  if (std::isnan(value) || std::isinf(value)) {
    const bool upper = spec.type == 'F' || spec.type == 'E' || spec.type == 'G';
    digits = std::isnan(value) ? (upper ? "NAN" : "nan") : (upper ? "INF" : "inf");
  } else if (spec.type == 0 && spec.precision < 0) {
    digits = FloatRepr(magnitude);
  } else if (spec.type == '%') {
    digits =
        FloatDigits(magnitude * 100, 'f', spec.precision < 0 ? 6 : spec.precision, false) + "%";
  } else {
    char type = spec.type == 0 || spec.type == 'n' ? 'g' : spec.type;
    int precision = spec.precision < 0 ? 6 : spec.precision;
    digits = FloatDigits(magnitude, type, precision, spec.alternate);
    if (spec.type == 0 && digits.find_first_of(".e") == std::string::npos) {
      digits += ".0";
    }
  }
  if (spec.group != 0) {
    digits = Grouped(digits, spec.group);
  }
  return Finish(digits, SignOf(std::signbit(value) && !std::isnan(value), spec), spec, align);
}

std::string CutTo(std::string text, int precision) {
  if (precision >= 0) {
    text.resize(OffsetOf(text, precision));
  }
  return text;
}

// "%..."

class PercentFormatter {
 public:
  PercentFormatter(const std::string& format, const Value& arguments)
      : format_(format), arguments_(arguments) {}

  std::string Run() {
    std::string out;
    while (position_ < format_.size()) {
      if (format_[position_] != '%') {
        out += format_[position_++];
        continue;
      }
      ++position_;
      out += Conversion();
      if (static_cast<int64_t>(out.size()) > kMaxStringBytes) {
        FailLimit("chat template formats a text that is too long");
      }
    }
    // A mapping may be left over: it answers %(name)s, and Python never counts it.
    const bool counts = arguments_.Is(Kind::kTuple) ||
                        (!arguments_.Is(Kind::kDict) && !arguments_.Is(Kind::kList) &&
                         !arguments_.Is(Kind::kUndefined) && !arguments_.Is(Kind::kRange));
    const size_t given = arguments_.Is(Kind::kTuple) ? arguments_.Items().size() : 1;
    if (counts && used_ < given) {
      Fail("not all arguments converted during string formatting");
    }
    return out;
  }

 private:
  Value Next() {
    if (arguments_.Is(Kind::kTuple)) {
      if (used_ >= arguments_.Items().size()) {
        Fail("not enough arguments for format string");
      }
      return arguments_.Items()[used_++];
    }
    if (used_++ > 0) {
      Fail("not enough arguments for format string");
    }
    return arguments_;
  }

  char Peek() const { return position_ < format_.size() ? format_[position_] : '\0'; }

  int64_t Number() {
    if (Peek() == '*') {
      ++position_;
      const Value value = Next();
      if (!value.IsIntegral()) {
        Fail("* wants int");
      }
      return value.AsInt();
    }
    int64_t number = 0;
    while (Peek() >= '0' && Peek() <= '9') {
      number = std::min<int64_t>(number * 10 + (Peek() - '0'), kMaxWidth + 1);
      ++position_;
    }
    return number;
  }

  std::string Conversion() {
    if (Peek() == '%') {
      ++position_;
      return "%";
    }
    Spec spec;
    bool has_key = false;
    Value value;
    if (Peek() == '(') {
      if (!arguments_.Is(Kind::kDict)) {
        Fail("format requires a mapping");
      }
      const size_t begin = ++position_;
      for (int open = 1; open > 0; ++position_) {
        if (position_ >= format_.size()) {
          Fail("incomplete format key");
        }
        open += Peek() == '(' ? 1 : Peek() == ')' ? -1 : 0;
      }
      const std::string key = format_.substr(begin, position_ - begin - 1);
      const Value* found = arguments_.Dict().Find(key);
      if (found == nullptr) {
        Fail("KeyError: '" + key + "'");
      }
      value = *found;
      has_key = true;
    }
    bool left = false;
    bool zero = false;
    for (bool more = true; more;) {
      switch (Peek()) {
        case '-':
          left = true;
          break;
        case '0':
          zero = true;
          break;
        case '+':
          spec.sign = '+';
          break;
        case ' ':
          spec.sign = spec.sign == 0 ? ' ' : spec.sign;
          break;
        case '#':
          spec.alternate = true;
          break;
        default:
          more = false;
          continue;
      }
      ++position_;
    }
    spec.width = Number();
    if (spec.width < 0) {
      left = true;
      spec.width = -spec.width;
    }
    if (Peek() == '.') {
      ++position_;
      spec.precision = static_cast<int>(std::clamp<int64_t>(Number(), 0, kMaxPrecision));
    }
    while (Peek() == 'h' || Peek() == 'l' || Peek() == 'L') {
      ++position_;
    }
    if (position_ >= format_.size()) {
      Fail("incomplete format");
    }
    const char type = format_[position_++];
    if (!has_key) {
      value = Next();
    }
    return Convert(type, value, &spec, left, zero);
  }

  static std::string Convert(char type, const Value& value, Spec* spec, bool left, bool zero) {
    const char text_align = left ? '<' : '>';
    const char number_align = left ? '<' : zero ? '=' : '>';
    const bool finite = !value.Is(Kind::kFloat) || std::isfinite(value.AsDouble());
    if (!left && zero && finite) {
      spec->fill = "0";
    }
    switch (type) {
      case 's':
      case 'r':
      case 'a': {
        spec->fill = " ";
        const std::string text = type == 's'   ? Str(value)
                                 : type == 'r' ? Repr(value)
                                               : AsciiRepr(value);
        return Finish(CutTo(text, spec->precision), "", *spec, text_align);
      }
      case 'c': {
        spec->fill = " ";
        std::string text;
        if (value.IsIntegral() && value.AsInt() >= 0 && value.AsInt() < 0x110000) {
          AppendUtf8(static_cast<char32_t>(value.AsInt()), &text);
        } else if (value.IsString() && value.String().length == 1) {
          text = value.Text();
        } else {
          Fail("%c requires int or char");
        }
        return Finish(text, "", *spec, text_align);
      }
      case 'd':
      case 'i':
      case 'u': {
        if (!value.IsNumber()) {
          Fail(std::string("%") + type + " format: a real number is required, not " +
               TypeName(value));
        }
        if (!finite || std::fabs(value.AsDouble()) >= 9.2e18) {
          Fail("cannot convert float to integer");
        }
        spec->type = 'd';
        const int64_t number =
            value.IsIntegral() ? value.AsInt() : static_cast<int64_t>(value.AsDouble());
        return FormatInteger(number, *spec, number_align);
      }
      case 'x':
      case 'X':
      case 'o':
        if (!value.IsIntegral()) {
          Fail(std::string("%") + type + " format: an integer is required, not " + TypeName(value));
        }
        spec->type = type;
        return FormatInteger(value.AsInt(), *spec, number_align);
      case 'e':
      case 'E':
      case 'f':
      case 'F':
      case 'g':
      case 'G':
        if (!value.IsNumber()) {
          Fail(std::string("must be real number, not ") + TypeName(value));
        }
        spec->type = type;
        return FormatFloat(value.AsDouble(), *spec, number_align);
      default:
        Fail(std::string("unsupported format character '") + type + "'");
    }
  }

  const std::string& format_;
  const Value& arguments_;
  size_t position_ = 0;
  size_t used_ = 0;
};

// "{...}"

class BraceFormatter {
 public:
  BraceFormatter(Interpreter* interpreter, const CallArgs& args)
      : interpreter_(interpreter), args_(args) {}

  std::string Run(std::string_view format, int depth) {
    if (depth < 0) {
      Fail("Max string recursion exceeded");
    }
    std::string out;
    for (size_t i = 0; i < format.size();) {
      const char c = format[i];
      if (c != '{' && c != '}') {
        out += c;
        ++i;
        continue;
      }
      if (i + 1 < format.size() && format[i + 1] == c) {
        out += c;
        i += 2;
        continue;
      }
      if (c == '}') {
        Fail("Single '}' encountered in format string");
      }
      const size_t begin = ++i;
      int open = 1;
      bool bracket = false;
      for (; i < format.size() && open > 0; ++i) {
        if (format[i] == '[' && open == 1) {
          bracket = true;
        } else if (format[i] == ']') {
          bracket = false;
        } else if (!bracket) {
          open += format[i] == '{' ? 1 : format[i] == '}' ? -1 : 0;
        }
      }
      if (open > 0) {
        Fail(begin >= format.size() ? "Single '{' encountered in format string"
                                    : "expected '}' before end of string");
      }
      out += Field(format.substr(begin, i - 1 - begin), depth);
      interpreter_->Charge(static_cast<int64_t>(out.size() / 64) + 1);
    }
    return out;
  }

 private:
  std::string Field(std::string_view field, int depth) {
    size_t end = 0;
    bool bracket = false;
    while (end < field.size() && (bracket || (field[end] != '!' && field[end] != ':'))) {
      bracket = field[end] == '[' || (bracket && field[end] != ']');
      ++end;
    }
    const Value value = Resolve(field.substr(0, end));
    char conversion = 0;
    if (end < field.size() && field[end] == '!') {
      if (end + 1 >= field.size()) {
        Fail("end of string while looking for conversion specifier");
      }
      conversion = field[end + 1];
      end += 2;
      if (end < field.size() && field[end] != ':') {
        Fail("expected ':' after conversion specifier");
      }
    }
    const std::string spec =
        end < field.size() ? Run(field.substr(end + 1), depth - 1) : std::string();
    switch (conversion) {
      case 0:
        return Format(value, spec);
      case 's':
        return Format(Value::String(Str(value)), spec);
      case 'r':
        return Format(Value::String(Repr(value)), spec);
      case 'a':
        return Format(Value::String(AsciiRepr(value)), spec);
      default:
        Fail(std::string("Unknown conversion specifier ") + conversion);
    }
  }

  static bool IsNumber(std::string_view text) {
    return !text.empty() && text.size() < 10 &&
           std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
  }

  Value First(std::string_view name) {
    if (name.empty() || IsNumber(name)) {
      size_t index = 0;
      if (name.empty()) {
        if (manual_) {
          Fail("cannot switch from manual field specification to automatic field numbering");
        }
        automatic_ = true;
        index = next_++;
      } else {
        if (automatic_) {
          Fail("cannot switch from automatic field numbering to manual field specification");
        }
        manual_ = true;
        index = static_cast<size_t>(std::stoi(std::string(name)));
      }
      if (index >= args_.positional.size()) {
        Fail("Replacement index " + std::to_string(index) +
             " out of range for positional args tuple");
      }
      return args_.positional[index];
    }
    for (const auto& [key, value] : args_.keyword) {
      if (key == name) {
        return value;
      }
    }
    Fail("KeyError: '" + std::string(name) + "'");
  }

  Value Resolve(std::string_view path) {
    const size_t first_end = std::min(path.find_first_of(".["), path.size());
    Value value = First(path.substr(0, first_end));
    for (size_t i = first_end; i < path.size();) {
      if (path[i] == '.') {
        const size_t end = std::min(path.find_first_of(".[", i + 1), path.size());
        if (end == i + 1) {
          Fail("Empty attribute in format string");
        }
        value = interpreter_->Attribute(value, path.substr(i + 1, end - i - 1));
        i = end;
      } else if (path[i] == '[') {
        const size_t end = path.find(']', i);
        if (end == std::string_view::npos) {
          Fail("Missing ']' in format string");
        }
        const std::string_view key = path.substr(i + 1, end - i - 1);
        if (key.empty()) {
          Fail("Empty attribute in format string");
        }
        value = interpreter_->Item(value, IsNumber(key) ? Value::Int(std::stoi(std::string(key)))
                                                        : Value::String(std::string(key)));
        i = end + 1;
      } else {
        Fail("Only '.' or '[' may follow ']' in format field specifier");
      }
    }
    return value;
  }

  static Spec Parse(std::string_view text) {
    Spec spec;
    static constexpr std::string_view kAligns = "<>=^";
    const auto is_align = [](char c) { return kAligns.find(c) != std::string_view::npos; };
    size_t i = 0;
    const auto peek = [&]() { return i < text.size() ? text[i] : '\0'; };
    if (!text.empty()) {
      const int size = DecodeAt(text, 0).size_bytes;
      if (static_cast<size_t>(size) < text.size() && is_align(text[size])) {
        spec.fill = text.substr(0, size);
        spec.align = text[size];
        i = size + 1;
      } else if (is_align(text[0])) {
        spec.align = text[0];
        i = 1;
      }
    }
    if (peek() == '+' || peek() == '-' || peek() == ' ') {
      spec.sign = peek() == '-' ? 0 : peek();
      ++i;
    }
    if (peek() == '#') {
      spec.alternate = true;
      ++i;
    }
    if (peek() == '0') {
      spec.zero = true;
      if (spec.align == 0) {
        spec.fill = "0";
      }
      ++i;
    }
    for (; peek() >= '0' && peek() <= '9'; ++i) {
      spec.width = std::min<int64_t>(spec.width * 10 + (peek() - '0'), kMaxWidth + 1);
    }
    if (peek() == ',' || peek() == '_') {
      spec.group = text[i++];
    }
    if (peek() == '.') {
      ++i;
      if (peek() < '0' || peek() > '9') {
        Fail("Format specifier missing precision");
      }
      spec.precision = 0;
      for (; peek() >= '0' && peek() <= '9'; ++i) {
        spec.precision = std::min(spec.precision * 10 + (peek() - '0'), kMaxPrecision);
      }
    }
    if (i < text.size()) {
      spec.type = text[i++];
    }
    if (i < text.size()) {
      Fail("Invalid format specifier");
    }
    return spec;
  }

  static std::string Format(const Value& value, std::string_view text) {
    if (text.empty()) {
      return Str(value);
    }
    const Spec spec = Parse(text);
    const auto unknown = [&]() {
      Fail(std::string("Unknown format code '") + spec.type + "' for object of type '" +
           TypeName(value) + "'");
    };
    if (value.IsString()) {
      if (spec.type != 0 && spec.type != 's') {
        unknown();
      }
      if (spec.sign != 0 || spec.align == '=' || spec.group != 0) {
        Fail("this format is not allowed in string format specifier");
      }
      return Finish(CutTo(value.Text(), spec.precision), "", spec,
                    spec.align != 0 ? spec.align : '<');
    }
    const char align = spec.align != 0 ? spec.align : spec.zero ? '=' : '>';
    static constexpr std::string_view kIntTypes = "bdoxX";
    static constexpr std::string_view kFloatTypes = "eEfFgG%n";
    if (value.Is(Kind::kBool) && spec.type == 0) {
      // bool has int's __format__, which writes 1 and 0 as soon as there is a specifier.
      return FormatInteger(value.AsInt(), spec, align);
    }
    if (value.IsIntegral() &&
        (spec.type == 0 || kIntTypes.find(spec.type) != std::string_view::npos)) {
      if (spec.precision >= 0) {
        Fail("Precision not allowed in integer format specifier");
      }
      return FormatInteger(value.AsInt(), spec, align);
    }
    if (value.IsNumber() && (spec.type == 0 || kFloatTypes.find(spec.type) != std::string::npos)) {
      return FormatFloat(value.AsDouble(), spec, align);
    }
    if (value.IsNumber()) {
      unknown();
    }
    Fail(std::string("unsupported format string passed to ") + TypeName(value) + ".__format__");
  }

  Interpreter* interpreter_;
  const CallArgs& args_;
  size_t next_ = 0;
  bool automatic_ = false;
  bool manual_ = false;
};

}  // namespace

Value PercentFormat(const Value& format, const Value& arguments) {
  return Value::String(PercentFormatter(format.Text(), arguments).Run(), format.String().markup);
}

std::string BraceFormat(Interpreter* interpreter, std::string_view format, const CallArgs& args) {
  return BraceFormatter(interpreter, args).Run(format, 2);
}

}  // namespace mach::jinja
