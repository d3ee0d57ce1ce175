// Reading foreign JSON: nlohmann-json behind limits and with errors that name the file.
// Not a schema: see config.h for typed fields. Stateless; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

namespace mach::formats {

struct JsonLimits {
  int max_depth = 64;
  bool unique_top_keys = false;  // a key given twice in the outermost object is an error
};

// Throws kCorruptFile naming `source`, the byte and the reason.
nlohmann::json ParseJson(std::string_view text, const std::string& source, JsonLimits limits = {});

// As above, and the outermost value must be an object.
nlohmann::json ParseJsonObject(std::string_view text, const std::string& source,
                               JsonLimits limits = {});

// A value as it appears in error messages: one line, at most about 80 bytes, always valid UTF-8.
std::string BriefJson(const nlohmann::json& value);

}  // namespace mach::formats
