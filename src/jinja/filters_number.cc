// Filters on numbers, and `default`.
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <optional>
#include <string>

#include "jinja/arguments.h"
#include "jinja/filters.h"
#include "jinja/interpreter.h"
#include "jinja/repr.h"
#include "jinja/text_ops.h"

namespace mach::jinja {

namespace {

bool IsAsciiDigit(char c) {
  return c >= '0' && c <= '9';
}

// Drops the underscores that Python allows between digits; nothing if they stand elsewhere.
std::optional<std::string> WithoutUnderscores(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '_') {
      if (i == 0 || i + 1 == text.size() ||
          std::isalnum(static_cast<unsigned char>(text[i - 1])) == 0 ||
          std::isalnum(static_cast<unsigned char>(text[i + 1])) == 0) {
        return std::nullopt;
      }
    } else {
      out += text[i];
    }
  }
  return out;
}

// int(text, base)
std::optional<int64_t> ParseInt(std::string_view text, int64_t base) {
  text = Strip(text, std::nullopt, Side::kBoth);
  const bool negative = !text.empty() && text[0] == '-';
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) {
    text.remove_prefix(1);
  }
  const auto prefixed = [&](char lower, int64_t wanted) {
    if ((base == 0 || base == wanted) && text.size() > 2 && text[0] == '0' &&
        (text[1] | 0x20) == lower) {
      text.remove_prefix(text[2] == '_' ? 3 : 2);
      base = wanted;
    }
  };
  prefixed('x', 16);
  prefixed('o', 8);
  prefixed('b', 2);
  if (base == 0) {
    base = 10;
  }
  if (base < 2 || base > 36) {
    return std::nullopt;
  }
  const std::optional<std::string> digits = WithoutUnderscores(text);
  if (!digits || digits->empty() || std::isalnum(static_cast<unsigned char>((*digits)[0])) == 0) {
    return std::nullopt;
  }
  const std::string signed_digits = (negative ? "-" : "") + *digits;
  int64_t value = 0;
  const char* end = signed_digits.data() + signed_digits.size();
  const auto [stop, error] =
      std::from_chars(signed_digits.data(), end, value, static_cast<int>(base));
  if (stop != end) {
    return std::nullopt;
  }
  if (error == std::errc::result_out_of_range) {
    Fail("integer " + signed_digits + " does not fit 64 bits");
  }
  return error == std::errc() ? std::optional<int64_t>(value) : std::nullopt;
}

// float(text)
std::optional<double> ParseFloat(std::string_view text) {
  const std::optional<std::string> digits =
      WithoutUnderscores(Strip(text, std::nullopt, Side::kBoth));
  if (!digits || digits->empty()) {
    return std::nullopt;
  }
  // strtod also reads hexadecimal, which float() does not.
  if (digits->find_first_of("xX") != std::string::npos) {
    return std::nullopt;
  }
  const bool starts_well = IsAsciiDigit((*digits)[0]) || (*digits)[0] == '+' ||
                           (*digits)[0] == '-' || (*digits)[0] == '.' ||
                           digits->find_first_of("iInN") == 0;
  char* end = nullptr;
  const double value = std::strtod(digits->c_str(), &end);
  if (!starts_well || end != digits->c_str() + digits->size() ||
      digits->find('(') != std::string::npos) {
    return std::nullopt;
  }
  return value;
}

std::optional<int64_t> Truncated(double value) {
  if (!std::isfinite(value)) {
    return std::nullopt;
  }
  if (std::fabs(value) >= 9223372036854775808.0) {
    Fail("integer result does not fit 64 bits");
  }
  return static_cast<int64_t>(value);
}

Value IntFilter(Interpreter&, const Value& input, CallArgs& args) {
  const BoundArgs bound("int", args, {"default", "base"});
  std::optional<int64_t> result;
  if (input.IsUndefined()) {
    Fail(input.Get<UndefinedObject>().Message());
  }
  if (input.IsString()) {
    result = ParseInt(input.Text(), bound.Integer(1, 10));
    if (!result) {
      if (const std::optional<double> real = ParseFloat(input.Text())) {
        result = Truncated(*real);
      }
    }
  } else if (input.IsIntegral()) {
    result = input.AsInt();
  } else if (input.Is(Kind::kBigInt)) {
    return input;
  } else if (input.Is(Kind::kFloat)) {
    if (std::isinf(input.AsDouble())) {
      Fail("cannot convert float infinity to integer");
    }
    result = Truncated(input.AsDouble());
  }
  return result ? Value::Int(*result) : bound.Or(0, Value::Int(0));
}

Value FloatFilter(Interpreter&, const Value& input, CallArgs& args) {
  const BoundArgs bound("float", args, {"default"});
  if (input.IsUndefined()) {
    Fail(input.Get<UndefinedObject>().Message());
  }
  if (input.IsNumber()) {
    return Value::Float(input.AsDouble());
  }
  if (input.Is(Kind::kBigInt) || input.IsString()) {
    if (const std::optional<double> value = ParseFloat(input.Text())) {
      return Value::Float(*value);
    }
  }
  return bound.Or(0, Value::Float(0));
}

Value AbsFilter(Interpreter&, const Value& input, CallArgs& args) {
  RequireNoArguments("abs", args);
  if (input.IsIntegral()) {
    if (input.AsInt() == INT64_MIN) {
      Fail("integer result does not fit 64 bits");
    }
    return Value::Int(std::abs(input.AsInt()));
  }
  if (!input.Is(Kind::kFloat)) {
    Fail(std::string("bad operand type for abs(): '") + TypeName(input) + "'");
  }
  return Value::Float(std::fabs(input.AsDouble()));
}

// round(value, digits) of a double: correctly rounded through its decimal digits, ties to even.
double RoundDouble(double value, int64_t digits) {
  if (!std::isfinite(value) || value == 0 || digits > 340) {
    return value;
  }
  if (digits < -340) {
    return std::copysign(0.0, value);
  }
  if (digits >= 0) {
    return std::strtod(FixedDouble(value, static_cast<int>(digits)).c_str(), nullptr);
  }
  const double scale = std::pow(10.0, static_cast<double>(-digits));
  return std::nearbyint(value / scale) * scale;
}

Value RoundFilter(Interpreter&, const Value& input, CallArgs& args) {
  const BoundArgs bound("round", args, {"precision", "method"});
  const int64_t precision = bound.Integer(0, 0);
  const std::string method = bound.Text(1, "common");
  if (method != "common" && method != "ceil" && method != "floor") {
    Fail("method must be common, ceil or floor");
  }
  if (!input.IsNumber()) {
    if (input.IsUndefined()) {
      Fail(input.Get<UndefinedObject>().Message());
    }
    Fail(std::string("type ") + TypeName(input) + " doesn't define __round__ method");
  }
  if (method == "common") {
    if (!input.IsIntegral()) {
      return Value::Float(RoundDouble(input.AsDouble(), precision));
    }
    if (precision >= 0) {
      return Value::Int(input.AsInt());
    }
    // Ties to even on integers.
    if (precision < -18) {
      return Value::Int(0);
    }
    int64_t scale = 1;
    for (int64_t i = precision; i < 0; ++i) {
      scale *= 10;
    }
    int64_t quotient = input.AsInt() / scale;
    const int64_t rest = std::abs(input.AsInt() % scale);
    if (rest * 2 > scale || (rest * 2 == scale && quotient % 2 != 0)) {
      quotient += input.AsInt() < 0 ? -1 : 1;
    }
    return Value::Int(quotient * scale);
  }
  const double scale = std::pow(10.0, static_cast<double>(precision));
  const double scaled = input.AsDouble() * scale;
  if (!std::isfinite(scaled) || scale == 0) {
    Fail("cannot convert float to integer");
  }
  return Value::Float((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale);
}

Value DefaultFilter(Interpreter&, const Value& input, CallArgs& args) {
  const BoundArgs bound("default", args, {"default_value", "boolean"});
  if (input.IsUndefined() || (bound.Flag(1) && !Truthy(input))) {
    return bound.Or(0, Value::String(""));
  }
  return input;
}

Value FileSizeFilter(Interpreter&, const Value& input, CallArgs& args) {
  const BoundArgs bound("filesizeformat", args, {"binary"});
  std::optional<double> bytes;
  if (input.IsNumber()) {
    bytes = input.AsDouble();
  } else if (input.IsString()) {
    bytes = ParseFloat(input.Text());
  }
  if (!bytes) {
    Fail("could not convert to float");
  }
  const bool binary = bound.Flag(0);
  const double base = binary ? 1024 : 1000;
  if (*bytes == 1) {
    return Value::String("1 Byte");
  }
  if (*bytes < base) {
    return Value::String(std::to_string(static_cast<int64_t>(std::max(*bytes, -9e18))) + " Bytes");
  }
  static constexpr std::string_view kPrefixes = "kMGTPEZY";
  double unit = base;
  for (size_t i = 0; i < kPrefixes.size(); ++i) {
    unit *= base;
    if (*bytes < unit || i + 1 == kPrefixes.size()) {
      std::string prefix(1, kPrefixes[i]);
      if (binary) {
        prefix = (i == 0 ? "K" : prefix) + "i";
      }
      return Value::String(FixedDouble(base * *bytes / unit, 1) + " " + prefix + "B");
    }
  }
  return Value::None();
}

constexpr auto kFilters = std::to_array<FilterEntry>({
    {"abs", AbsFilter},
    {"d", DefaultFilter},
    {"default", DefaultFilter},
    {"filesizeformat", FileSizeFilter},
    {"float", FloatFilter},
    {"int", IntFilter},
    {"round", RoundFilter},
});

}  // namespace

const FilterEntry* FindNumberFilter(std::string_view name) {
  const auto* it = std::find_if(kFilters.begin(), kFilters.end(),
                                [name](const FilterEntry& entry) { return entry.name == name; });
  return it == kFilters.end() ? nullptr : &*it;
}

}  // namespace mach::jinja
