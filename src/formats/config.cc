#include "formats/config.h"

#include <cmath>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "formats/json.h"
#include "platform/file.h"

namespace mach::formats {
namespace {

using nlohmann::json;

constexpr uint64_t kMaxConfigBytes = 64ULL << 20;

std::string NumberText(double value) {
  return BriefJson(json(value));
}

std::string IntExpectation(int64_t min, int64_t max) {
  if (min == ConfigReader::kIntMin && max == ConfigReader::kIntMax) {
    return "an integer";
  }
  if (max == ConfigReader::kIntMax) {
    return "an integer of at least " + std::to_string(min);
  }
  return "an integer from " + std::to_string(min) + " to " + std::to_string(max);
}

std::string FloatExpectation(double min, double max) {
  if (min == ConfigReader::kFloatMin && max == ConfigReader::kFloatMax) {
    return "a finite number";
  }
  if (max == ConfigReader::kFloatMax) {
    return "a finite number of at least " + NumberText(min);
  }
  return "a number from " + NumberText(min) + " to " + NumberText(max);
}

std::optional<int64_t> AsInt(const json& value, int64_t min, int64_t max) {
  int64_t number = 0;
  if (value.is_number_unsigned()) {
    const auto raw = value.get<uint64_t>();
    if (raw > static_cast<uint64_t>(ConfigReader::kIntMax)) {
      return std::nullopt;
    }
    number = static_cast<int64_t>(raw);
  } else if (value.is_number_integer()) {
    number = value.get<int64_t>();
  } else if (value.is_number_float()) {
    const auto raw = value.get<double>();
    constexpr double kExact = 9007199254740992.0;  // 2^53: beyond it "integer" means nothing
    if (!std::isfinite(raw) || std::floor(raw) != raw || std::fabs(raw) > kExact) {
      return std::nullopt;
    }
    number = static_cast<int64_t>(raw);
  } else {
    return std::nullopt;
  }
  return number >= min && number <= max ? std::optional(number) : std::nullopt;
}

std::optional<double> AsFloat(const json& value, double min, double max) {
  if (!value.is_number()) {
    return std::nullopt;
  }
  const auto number = value.get<double>();
  return std::isfinite(number) && number >= min && number <= max ? std::optional(number)
                                                                 : std::nullopt;
}

}  // namespace

ConfigReader::ConfigReader() : document_(std::make_shared<const json>(json::object())) {
  node_ = document_.get();
}

ConfigReader::ConfigReader(std::shared_ptr<const json> document, const json* node, std::string file,
                           std::string prefix)
    : document_(std::move(document)),
      node_(node),
      file_(std::move(file)),
      prefix_(std::move(prefix)) {}

ConfigReader ConfigReader::Parse(std::string_view text, std::string file) {
  auto document = std::make_shared<const json>(ParseJsonObject(text, file));
  const json* node = document.get();
  return {std::move(document), node, std::move(file), ""};
}

ConfigReader ConfigReader::Load(const std::filesystem::path& path) {
  return Parse(ReadWholeFile(path, kMaxConfigBytes), path.string());
}

std::string ConfigReader::Where(std::string_view field) const {
  return file_ + ": " + prefix_ + std::string(field);
}

const json* ConfigReader::Find(std::string_view field) const {
  const auto it = node_->find(field);
  return it == node_->end() || it->is_null() ? nullptr : &*it;
}

const json& ConfigReader::Require(std::string_view field, const char* expected) const {
  const json* value = Find(field);
  if (value == nullptr) {
    throw Error(ErrorCode::kCorruptFile,
                Where(field) + " is missing, expected " + std::string(expected));
  }
  return *value;
}

void ConfigReader::Fail(std::string_view field, const std::string& expected) const {
  const json* value = Find(field);
  throw Error(ErrorCode::kCorruptFile, Where(field) + " is " +
                                           (value == nullptr ? "missing" : BriefJson(*value)) +
                                           ", expected " + expected);
}

bool ConfigReader::Has(std::string_view field) const {
  return Find(field) != nullptr;
}

std::vector<std::string> ConfigReader::Keys() const {
  std::vector<std::string> keys;
  for (const auto& [key, value] : node_->items()) {
    keys.push_back(key);
  }
  return keys;
}

int64_t ConfigReader::RequireInt(std::string_view field, int64_t min, int64_t max) const {
  const auto number = AsInt(Require(field, "an integer"), min, max);
  if (!number) {
    Fail(field, IntExpectation(min, max));
  }
  return *number;
}

std::optional<int64_t> ConfigReader::OptionalInt(std::string_view field, int64_t min,
                                                 int64_t max) const {
  return Has(field) ? std::optional(RequireInt(field, min, max)) : std::nullopt;
}

int64_t ConfigReader::IntOr(std::string_view field, int64_t fallback, int64_t min,
                            int64_t max) const {
  return OptionalInt(field, min, max).value_or(fallback);
}

double ConfigReader::RequireFloat(std::string_view field, double min, double max) const {
  const auto number = AsFloat(Require(field, "a number"), min, max);
  if (!number) {
    Fail(field, FloatExpectation(min, max));
  }
  return *number;
}

std::optional<double> ConfigReader::OptionalFloat(std::string_view field, double min,
                                                  double max) const {
  return Has(field) ? std::optional(RequireFloat(field, min, max)) : std::nullopt;
}

double ConfigReader::FloatOr(std::string_view field, double fallback, double min,
                             double max) const {
  return OptionalFloat(field, min, max).value_or(fallback);
}

bool ConfigReader::RequireBool(std::string_view field) const {
  const json& value = Require(field, "true or false");
  if (!value.is_boolean()) {
    Fail(field, "true or false");
  }
  return value.get<bool>();
}

std::optional<bool> ConfigReader::OptionalBool(std::string_view field) const {
  return Has(field) ? std::optional(RequireBool(field)) : std::nullopt;
}

bool ConfigReader::BoolOr(std::string_view field, bool fallback) const {
  return OptionalBool(field).value_or(fallback);
}

std::string ConfigReader::RequireString(std::string_view field) const {
  const json& value = Require(field, "a string");
  if (!value.is_string()) {
    Fail(field, "a string");
  }
  return value.get<std::string>();
}

std::optional<std::string> ConfigReader::OptionalString(std::string_view field) const {
  return Has(field) ? std::optional(RequireString(field)) : std::nullopt;
}

ConfigReader ConfigReader::RequireObject(std::string_view field) const {
  const json& value = Require(field, "an object");
  if (!value.is_object()) {
    Fail(field, "an object");
  }
  return {document_, &value, file_, prefix_ + std::string(field) + "."};
}

std::optional<ConfigReader> ConfigReader::OptionalObject(std::string_view field) const {
  return Has(field) ? std::optional(RequireObject(field)) : std::nullopt;
}

std::vector<ConfigReader> ConfigReader::RequireObjects(std::string_view field) const {
  const json& value = Require(field, "an array of objects");
  if (!value.is_array()) {
    Fail(field, "an array of objects");
  }
  std::vector<ConfigReader> objects;
  objects.reserve(value.size());
  for (const json& element : value) {
    const std::string name = std::string(field) + "[" + std::to_string(objects.size()) + "]";
    if (!element.is_object()) {
      throw Error(ErrorCode::kCorruptFile,
                  Where(name) + " is " + BriefJson(element) + ", expected an object");
    }
    objects.push_back({document_, &element, file_, prefix_ + name + "."});
  }
  return objects;
}

std::optional<std::vector<int64_t>> ConfigReader::OptionalIntArray(std::string_view field,
                                                                   int64_t min, int64_t max) const {
  const json* value = Find(field);
  if (value == nullptr) {
    return std::nullopt;
  }
  std::vector<int64_t> numbers;
  for (const json& element : value->is_array() ? *value : json::array({json()})) {
    const auto number = AsInt(element, min, max);
    if (!number) {
      Fail(field, "an array, each element " + IntExpectation(min, max));
    }
    numbers.push_back(*number);
  }
  return numbers;
}

std::optional<std::vector<double>> ConfigReader::OptionalFloatArray(std::string_view field,
                                                                    double min, double max) const {
  const json* value = Find(field);
  if (value == nullptr) {
    return std::nullopt;
  }
  std::vector<double> numbers;
  for (const json& element : value->is_array() ? *value : json::array({json()})) {
    const auto number = AsFloat(element, min, max);
    if (!number) {
      Fail(field, "an array, each element " + FloatExpectation(min, max));
    }
    numbers.push_back(*number);
  }
  return numbers;
}

std::optional<std::vector<std::string>> ConfigReader::OptionalStringArray(
    std::string_view field) const {
  const json* value = Find(field);
  if (value == nullptr) {
    return std::nullopt;
  }
  std::vector<std::string> strings;
  for (const json& element : value->is_array() ? *value : json::array({json()})) {
    if (!element.is_string()) {
      Fail(field, "an array of strings");
    }
    strings.push_back(element.get<std::string>());
  }
  return strings;
}

std::optional<std::vector<int64_t>> ConfigReader::OptionalIntOrArray(std::string_view field,
                                                                     int64_t min,
                                                                     int64_t max) const {
  const json* value = Find(field);
  if (value != nullptr && !value->is_array()) {
    return std::vector<int64_t>{RequireInt(field, min, max)};
  }
  return OptionalIntArray(field, min, max);
}

}  // namespace mach::formats
