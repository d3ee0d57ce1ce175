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

// int(text), in decimal
std::optional<int64_t> ParseInt(std::string_view text) {
  text = Strip(text, std::nullopt, Side::kBoth);
  if (text.starts_with('+')) {
    text.remove_prefix(1);
  }
  int64_t value = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (stop != text.data() + text.size()) {
    return std::nullopt;
  }
  if (error == std::errc::result_out_of_range) {
    Fail("integer " + std::string(text) + " does not fit 64 bits");
  }
  return error == std::errc() ? std::optional<int64_t>(value) : std::nullopt;
}

// float(text)
std::optional<double> ParseFloat(std::string_view text) {
  text = Strip(text, std::nullopt, Side::kBoth);
  if (text.starts_with('+')) {
    text.remove_prefix(1);
  }
  double value = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && stop == text.data() + text.size() ? std::optional<double>(value)
                                                                   : std::nullopt;
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
  const BoundArgs bound("int", args, {"default"});
  std::optional<int64_t> result;
  if (input.IsUndefined()) {
    Fail(input.Get<UndefinedObject>().Message());
  }
  if (input.IsString()) {
    result = ParseInt(input.Text());
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

Value DefaultFilter(Interpreter&, const Value& input, CallArgs& args) {
  const BoundArgs bound("default", args, {"default_value", "boolean"});
  if (input.IsUndefined() || (bound.Flag(1) && !Truthy(input))) {
    return bound.Or(0, Value::String(""));
  }
  return input;
}

constexpr auto kFilters = std::to_array<FilterEntry>({
    {"abs", AbsFilter},
    {"d", DefaultFilter},
    {"default", DefaultFilter},
    {"float", FloatFilter},
    {"int", IntFilter},
});

}  // namespace

const FilterEntry* FindNumberFilter(std::string_view name) {
  const auto* it = std::find_if(kFilters.begin(), kFilters.end(),
                                [name](const FilterEntry& entry) { return entry.name == name; });
  return it == kFilters.end() ? nullptr : &*it;
}

}  // namespace mach::jinja
