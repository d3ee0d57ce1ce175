#include "api/fields.h"

#include <array>
#include <cmath>
#include <cstdio>
#include <utility>

#include "api/json_text.h"

namespace mach::api {
namespace {

std::string FormatBound(double value) {
  if (value == std::floor(value) && std::abs(value) < 1e15) {
    return std::to_string(static_cast<int64_t>(value));
  }
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%g", value);
  return text.data();
}

// An integer that no 64 bits hold is read as a float.
bool IsHugeInteger(const Json& value) {
  return value.is_number_float() && std::abs(value.get<double>()) >= 0x1p63;
}

}  // namespace

void Reject(std::string message, std::string param) {
  throw RequestError(InvalidRequest(std::move(message), std::move(param)));
}

Json ParseObject(std::string body) {
  Json document = ParseJson(std::exchange(body, {}));
  if (!document.is_object()) {
    Reject(
        "The request body must be a JSON object, not " + std::string(JsonTypeName(document)) + ".",
        "");
  }
  return document;
}

std::string_view JsonTypeName(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return "null";
    case Json::value_t::boolean:
      return "a boolean";
    case Json::value_t::string:
      return "a string";
    case Json::value_t::array:
      return "an array";
    case Json::value_t::object:
      return "an object";
    case Json::value_t::number_float:
      return "a number";
    case Json::value_t::number_integer:
    case Json::value_t::number_unsigned:
      return "an integer";
    default:
      return "something else";
  }
}

void Fields::WrongType(std::string_view key, std::string_view expected, const Json& value) const {
  Reject("'" + Path(key) + "' must be " + std::string(expected) + ", not " +
             std::string(JsonTypeName(value)) + ".",
         Path(key));
}

const Json* Fields::Find(std::string_view key) const {
  const auto it = object_.find(key);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

std::optional<bool> Fields::Bool(std::string_view key) const {
  const Json* value = Find(key);
  if (value == nullptr) {
    return std::nullopt;
  }
  if (!value->is_boolean()) {
    WrongType(key, "a boolean", *value);
  }
  return value->get<bool>();
}

std::optional<std::string> Fields::String(std::string_view key) const {
  const Json* value = Find(key);
  if (value == nullptr) {
    return std::nullopt;
  }
  if (!value->is_string()) {
    WrongType(key, "a string", *value);
  }
  return value->get<std::string>();
}

std::optional<int64_t> Fields::Integer(std::string_view key, int64_t min, int64_t max) const {
  const Json* value = Find(key);
  if (value == nullptr) {
    return std::nullopt;
  }
  const bool huge = IsHugeInteger(*value);
  const bool whole =
      value->is_number_float() && !huge && value->get<double>() == std::floor(value->get<double>());
  if (!value->is_number_integer() && !huge && !whole) {
    WrongType(key, "an integer", *value);
  }
  const bool too_big = huge || (value->is_number_unsigned() &&
                                value->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX));
  const int64_t number = too_big ? 0 : value->get<int64_t>();
  if (too_big || number < min || number > max) {
    std::string range = "at least " + std::to_string(min);
    if (too_big && value->get<double>() > 0 && max == INT64_MAX) {
      range = "at most " + std::to_string(max);
    } else if (max != INT64_MAX) {
      range = min == INT64_MIN ? "at most " + std::to_string(max)
                               : "from " + std::to_string(min) + " to " + std::to_string(max);
    } else if (min == INT64_MIN) {
      range = "a signed 64-bit integer";
    }
    Reject("'" + Path(key) + "' must be " + range + ", not " + value->dump() + ".", Path(key));
  }
  return number;
}

std::optional<float> Fields::Number(std::string_view key, double min, double max,
                                    bool exclusive_min) const {
  const Json* value = Find(key);
  if (value == nullptr) {
    return std::nullopt;
  }
  if (!value->is_number()) {
    WrongType(key, "a number", *value);
  }
  const auto number = value->get<double>();
  const double limit = std::min(max, static_cast<double>(std::numeric_limits<float>::max()));
  const bool above = exclusive_min ? number > min : number >= min;
  if (!above || !(number <= limit)) {
    std::string range = (exclusive_min ? "greater than " : "at least ") + FormatBound(min);
    if (std::isfinite(max) || number > limit) {
      range += " and at most " + FormatBound(limit);
    }
    Reject("'" + Path(key) + "' must be " + range + ", not " + value->dump() + ".", Path(key));
  }
  const auto narrowed = static_cast<float>(number);
  // A tiny double must not round onto the bound that it is strictly above.
  return exclusive_min && narrowed <= min ? std::numeric_limits<float>::min() : narrowed;
}

const Json* Fields::Object(std::string_view key) const {
  const Json* value = Find(key);
  if (value != nullptr && !value->is_object()) {
    WrongType(key, "an object", *value);
  }
  return value;
}

const Json* Fields::Array(std::string_view key) const {
  const Json* value = Find(key);
  if (value != nullptr && !value->is_array()) {
    WrongType(key, "an array", *value);
  }
  return value;
}

void Fields::RefuseUnless(std::string_view key, const Json& harmless) const {
  const Json* value = Find(key);
  if (value != nullptr && *value != harmless) {
    Reject("'" + Path(key) + "' is not supported by this server.", Path(key));
  }
}

}  // namespace mach::api
