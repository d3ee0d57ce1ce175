#include "formats/json.h"

#include <set>

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace mach::formats {

using nlohmann::json;

json ParseJson(std::string_view text, const std::string& source, JsonLimits limits) {
  std::set<std::string> top_keys;
  const json::parser_callback_t check = [&](int depth, json::parse_event_t event, json& parsed) {
    const bool opens =
        event == json::parse_event_t::object_start || event == json::parse_event_t::array_start;
    if (opens && depth >= limits.max_depth) {
      throw Error(ErrorCode::kCorruptFile, source + ": JSON nested deeper than " +
                                               std::to_string(limits.max_depth) + " levels");
    }
    if (limits.unique_top_keys && depth == 1 && event == json::parse_event_t::key &&
        !top_keys.insert(parsed.get<std::string>()).second) {
      throw Error(ErrorCode::kCorruptFile,
                  source + ": the key " + BriefJson(parsed) + " is given twice");
    }
    return true;
  };
  try {
    return json::parse(text.begin(), text.end(), check);
  } catch (const json::exception& error) {
    throw Error(ErrorCode::kCorruptFile, source + " is not valid JSON: " + error.what());
  }
}

json ParseJsonObject(std::string_view text, const std::string& source, JsonLimits limits) {
  json value = ParseJson(text, source, limits);
  if (!value.is_object()) {
    throw Error(ErrorCode::kCorruptFile,
                source + ": expected a JSON object, found " + BriefJson(value));
  }
  return value;
}

std::string BriefJson(const json& value) {
  constexpr size_t kLimit = 80;
  if (value.is_structured() && value.size() > 16) {
    return std::string(value.is_object() ? "an object" : "an array") + " of " +
           std::to_string(value.size()) + " entries";
  }
  // ASCII only, so that cutting never splits a character.
  std::string text = value.dump(-1, ' ', true, json::error_handler_t::replace);
  if (text.size() > kLimit) {
    text.resize(kLimit);
    text += "...";
  }
  return text;
}

}  // namespace mach::formats
