// A typed, validating view of a JSON object such as config.json. Knows its file and the path of
// each field, so every error reads "FILE: FIELD is VALUE, expected ...". A field that is null
// counts as absent. Cheap to copy: copies share the parsed document. Immutable; any thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace mach::formats {

class ConfigReader {
 public:
  static constexpr int64_t kIntMin = std::numeric_limits<int64_t>::min();
  static constexpr int64_t kIntMax = std::numeric_limits<int64_t>::max();
  static constexpr double kFloatMin = std::numeric_limits<double>::lowest();
  static constexpr double kFloatMax = std::numeric_limits<double>::max();

  // An empty object.
  ConfigReader();
  // Throws kCorruptFile if `text` is not a JSON object; `file` is the name used in messages.
  static ConfigReader Parse(std::string_view text, std::string file);
  // Throws kNotFound, kIo, kResourceLimit (over 64 MiB) or as Parse.
  static ConfigReader Load(const std::filesystem::path& path);

  const std::string& file() const { return file_; }
  // "config.json: text_config.hidden_size", for messages about values this class cannot judge.
  std::string Where(std::string_view field) const;
  bool Has(std::string_view field) const;  // present and not null
  std::vector<std::string> Keys() const;   // sorted
  // The object itself, for what these accessors do not cover.
  const nlohmann::json& Node() const { return *node_; }

  // All of these throw kCorruptFile: Require... if the field is absent, and all if it has
  // another type or lies outside [min, max]. Integers accept 1.0 for 1; floats must be finite.
  int64_t RequireInt(std::string_view field, int64_t min = kIntMin, int64_t max = kIntMax) const;
  std::optional<int64_t> OptionalInt(std::string_view field, int64_t min = kIntMin,
                                     int64_t max = kIntMax) const;
  int64_t IntOr(std::string_view field, int64_t fallback, int64_t min = kIntMin,
                int64_t max = kIntMax) const;
  double RequireFloat(std::string_view field, double min = kFloatMin, double max = kFloatMax) const;
  std::optional<double> OptionalFloat(std::string_view field, double min = kFloatMin,
                                      double max = kFloatMax) const;
  double FloatOr(std::string_view field, double fallback, double min = kFloatMin,
                 double max = kFloatMax) const;
  bool RequireBool(std::string_view field) const;
  std::optional<bool> OptionalBool(std::string_view field) const;
  bool BoolOr(std::string_view field, bool fallback) const;
  std::string RequireString(std::string_view field) const;
  std::optional<std::string> OptionalString(std::string_view field) const;
  ConfigReader RequireObject(std::string_view field) const;
  std::optional<ConfigReader> OptionalObject(std::string_view field) const;
  std::vector<ConfigReader> RequireObjects(std::string_view field) const;  // an array of them
  std::optional<std::vector<int64_t>> OptionalIntArray(std::string_view field,
                                                       int64_t min = kIntMin,
                                                       int64_t max = kIntMax) const;
  std::optional<std::vector<double>> OptionalFloatArray(std::string_view field,
                                                        double min = kFloatMin,
                                                        double max = kFloatMax) const;
  std::optional<std::vector<std::string>> OptionalStringArray(std::string_view field) const;
  // One integer or an array of them, as eos_token_id comes.
  std::optional<std::vector<int64_t>> OptionalIntOrArray(std::string_view field,
                                                         int64_t min = kIntMin,
                                                         int64_t max = kIntMax) const;

  // Throws kCorruptFile "FILE: FIELD is VALUE, expected EXPECTED".
  [[noreturn]] void Fail(std::string_view field, const std::string& expected) const;

 private:
  ConfigReader(std::shared_ptr<const nlohmann::json> document, const nlohmann::json* node,
               std::string file, std::string prefix);
  const nlohmann::json* Find(std::string_view field) const;  // null if absent or null
  const nlohmann::json& Require(std::string_view field, const char* expected) const;

  std::shared_ptr<const nlohmann::json> document_;
  const nlohmann::json* node_;  // inside *document_
  std::string file_;
  std::string prefix_;  // "text_config." or empty
};

}  // namespace mach::formats
