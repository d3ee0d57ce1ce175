#include "jinja/repr.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <vector>

#include "jinja/interpreter.h"
#include "jinja/unicode.h"

namespace mach::jinja {

namespace {

void CheckSize(const std::string& text) {
  if (static_cast<int64_t>(text.size()) > kMaxStringBytes) {
    FailLimit("chat template: a text of more than " + std::to_string(kMaxStringBytes) + " bytes");
  }
}

void AppendHex(const char* format, char32_t c, std::string* out) {
  std::array<char, 16> buffer{};
  std::snprintf(buffer.data(), buffer.size(), format, static_cast<unsigned>(c));
  *out += buffer.data();
}

void AppendRepr(const Value& value, std::string* out);

void AppendItems(const std::vector<Value>& items, std::string* out) {
  bool first = true;
  for (const Value& item : items) {
    if (!first) {
      *out += ", ";
    }
    first = false;
    AppendRepr(item, out);
  }
}

void AppendDict(const DictObject& dict, std::string* out) {
  *out += '{';
  bool first = true;
  for (const auto& [key, value] : dict.entries) {
    if (!first) {
      *out += ", ";
    }
    first = false;
    AppendRepr(key, out);
    *out += ": ";
    AppendRepr(value, out);
  }
  *out += '}';
}

void AppendRepr(const Value& value, std::string* out) {
  CheckSize(*out);
  switch (value.kind()) {
    case Kind::kMissing:
    case Kind::kUndefined:
      *out += "Undefined";
      return;
    case Kind::kNone:
      *out += "None";
      return;
    case Kind::kBool:
      *out += value.AsBool() ? "True" : "False";
      return;
    case Kind::kInt:
      *out += std::to_string(value.AsInt());
      return;
    case Kind::kBigInt:
      *out += value.Text();
      return;
    case Kind::kFloat:
      *out += FloatRepr(value.AsDouble());
      return;
    case Kind::kString:
      *out += value.String().markup ? "Markup(" + StringRepr(value.Text()) + ")"
                                    : StringRepr(value.Text());
      return;
    case Kind::kList:
      *out += '[';
      AppendItems(value.Items(), out);
      *out += ']';
      return;
    case Kind::kTuple:
      *out += '(';
      AppendItems(value.Items(), out);
      *out += value.Items().size() == 1 ? ",)" : ")";
      return;
    case Kind::kDict:
      AppendDict(value.Dict(), out);
      return;
    case Kind::kView:
      *out += TypeName(value);
      *out += "([";
      AppendItems(ToVector(value), out);
      *out += "])";
      return;
    case Kind::kRange: {
      const RangeObject& range = value.Get<RangeObject>();
      *out += "range(" + std::to_string(range.start) + ", " + std::to_string(range.stop);
      if (range.step != 1) {
        *out += ", " + std::to_string(range.step);
      }
      *out += ")";
      return;
    }
    case Kind::kNamespace:
      *out += "<Namespace ";
      // A namespace may hold itself, so its contents are not walked further than one level.
      *out += "{...}>";
      return;
    case Kind::kGenerator:
      *out += std::string("<") + TypeName(value) + " object>";
      return;
    case Kind::kLoop:
    case Kind::kCallable:
      *out += value.Get<CallableObject>().Repr();
      return;
  }
}

// json.dumps

void AppendJsonString(std::string_view text, bool ensure_ascii, std::string* out) {
  *out += '"';
  for (size_t i = 0; i < text.size();) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte >= 0x20 && byte != '"' && byte != '\\' && byte < 0x80 && byte != 0x7F) {
      *out += text[i++];
      continue;
    }
    const CodePoint c = DecodeAt(text, i);
    switch (c.value) {
      case '"':
        *out += "\\\"";
        break;
      case '\\':
        *out += "\\\\";
        break;
      case '\n':
        *out += "\\n";
        break;
      case '\r':
        *out += "\\r";
        break;
      case '\t':
        *out += "\\t";
        break;
      case '\b':
        *out += "\\b";
        break;
      case '\f':
        *out += "\\f";
        break;
      default:
        if (c.value < 0x20 || (ensure_ascii && c.value > 0x7E && c.value < 0x10000)) {
          AppendHex("\\u%04x", c.value, out);
        } else if (ensure_ascii && c.value >= 0x10000) {
          const char32_t rest = c.value - 0x10000;
          AppendHex("\\u%04x", 0xD800 + (rest >> 10), out);
          AppendHex("\\u%04x", 0xDC00 + (rest & 0x3FF), out);
        } else {
          out->append(text, i, c.size_bytes);
        }
    }
    i += c.size_bytes;
  }
  *out += '"';
}

std::string JsonFloat(double value) {
  if (std::isnan(value)) {
    return "NaN";
  }
  if (std::isinf(value)) {
    return value > 0 ? "Infinity" : "-Infinity";
  }
  return FloatRepr(value);
}

class JsonWriter {
 public:
  JsonWriter(const JsonStyle& style, std::string* out) : style_(style), out_(out) {}

  void Write(const Value& value, int level) {
    CheckSize(*out_);
    switch (value.kind()) {
      case Kind::kNone:
        *out_ += "null";
        return;
      case Kind::kBool:
        *out_ += value.AsBool() ? "true" : "false";
        return;
      case Kind::kInt:
      case Kind::kBigInt:
        *out_ += Str(value);
        return;
      case Kind::kFloat:
        *out_ += JsonFloat(value.AsDouble());
        return;
      case Kind::kString:
        AppendJsonString(value.Text(), style_.ensure_ascii, out_);
        return;
      case Kind::kList:
      case Kind::kTuple:
        WriteList(value.Items(), level);
        return;
      case Kind::kDict:
        WriteDict(value.Dict(), level);
        return;
      default:
        Fail(std::string("Object of type ") + TypeName(value) + " is not JSON serializable");
    }
  }

 private:
  void NewLine(int level) {
    if (style_.indent) {
      *out_ += '\n';
      for (int i = 0; i < level; ++i) {
        *out_ += *style_.indent;
        CheckSize(*out_);
      }
    }
  }

  void WriteList(const std::vector<Value>& items, int level) {
    if (items.empty()) {
      *out_ += "[]";
      return;
    }
    *out_ += '[';
    bool first = true;
    for (const Value& item : items) {
      if (!first) {
        *out_ += style_.item_separator;
      }
      first = false;
      NewLine(level + 1);
      Write(item, level + 1);
    }
    NewLine(level);
    *out_ += ']';
  }

  static std::string Key(const Value& key) {
    switch (key.kind()) {
      case Kind::kString:
        return key.Text();
      case Kind::kNone:
        return "null";
      case Kind::kBool:
        return key.AsBool() ? "true" : "false";
      case Kind::kInt:
      case Kind::kBigInt:
        return Str(key);
      case Kind::kFloat:
        return JsonFloat(key.AsDouble());
      default:
        Fail(std::string("keys must be str, int, float, bool or None, not ") + TypeName(key));
    }
  }

  void WriteDict(const DictObject& dict, int level) {
    if (dict.entries.empty()) {
      *out_ += "{}";
      return;
    }
    std::vector<const std::pair<Value, Value>*> entries;
    entries.reserve(dict.entries.size());
    for (const auto& entry : dict.entries) {
      entries.push_back(&entry);
    }
    if (style_.sort_keys) {
      std::stable_sort(entries.begin(), entries.end(), [](const auto* a, const auto* b) {
        return Compare(a->first, b->first, "<").sign < 0;
      });
    }
    *out_ += '{';
    bool first = true;
    for (const auto* entry : entries) {
      if (!first) {
        *out_ += style_.item_separator;
      }
      first = false;
      NewLine(level + 1);
      AppendJsonString(Key(entry->first), style_.ensure_ascii, out_);
      *out_ += style_.key_separator;
      Write(entry->second, level + 1);
    }
    NewLine(level);
    *out_ += '}';
  }

  const JsonStyle& style_;
  std::string* out_;
};

}  // namespace

std::string FloatRepr(double value) {
  if (std::isnan(value)) {
    return "nan";
  }
  if (std::isinf(value)) {
    return value > 0 ? "inf" : "-inf";
  }
  std::array<char, 40> buffer{};
  const auto [end, error] = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                                          std::chars_format::scientific);
  const std::string_view text(buffer.data(), end - buffer.data());
  const size_t e = text.find('e');
  const int exponent = std::atoi(text.data() + e + 1);
  if (exponent < -4 || exponent >= 16) {
    // Python writes at least two exponent digits, as to_chars does.
    return std::string(text);
  }
  std::string digits;
  const bool negative = text[0] == '-';
  for (const char c : text.substr(0, e)) {
    if (c >= '0' && c <= '9') {
      digits += c;
    }
  }
  std::string out = negative ? "-" : "";
  if (exponent < 0) {
    return out + "0." + std::string(-exponent - 1, '0') + digits;
  }
  const size_t whole = exponent + 1;
  if (digits.size() <= whole) {
    return out + digits + std::string(whole - digits.size(), '0') + ".0";
  }
  return out + digits.substr(0, whole) + "." + digits.substr(whole);
}

std::string StringRepr(std::string_view text) {
  const bool single = text.find('\'') != std::string_view::npos;
  const char quote = single && text.find('"') == std::string_view::npos ? '"' : '\'';
  std::string out(1, quote);
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = DecodeAt(text, i);
    if (c.value == static_cast<char32_t>(quote) || c.value == '\\') {
      out += '\\';
      out += static_cast<char>(c.value);
    } else if (c.value == '\n') {
      out += "\\n";
    } else if (c.value == '\r') {
      out += "\\r";
    } else if (c.value == '\t') {
      out += "\\t";
    } else if (IsPrintable(c.value)) {
      out.append(text, i, c.size_bytes);
    } else {
      AppendHex(c.value < 0x100     ? "\\x%02x"
                : c.value < 0x10000 ? "\\u%04x"
                                    : "\\U%08x",
                c.value, &out);
    }
    i += c.size_bytes;
  }
  out += quote;
  return out;
}

std::string Str(const Value& value) {
  if (value.IsString()) {
    return value.Text();
  }
  if (value.IsUndefined() || value.Is(Kind::kMissing)) {
    return "";
  }
  return Repr(value);
}

std::string Repr(const Value& value) {
  std::string out;
  AppendRepr(value, &out);
  CheckSize(out);
  return out;
}

std::string DumpJson(const Value& value, const JsonStyle& style) {
  std::string out;
  JsonWriter(style, &out).Write(value, 0);
  CheckSize(out);
  return out;
}

}  // namespace mach::jinja
