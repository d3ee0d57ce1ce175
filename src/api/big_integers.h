// JSON whose integers of more than 64 bits are kept as they are written. Any thread.
#pragma once

#include <string_view>

#include <nlohmann/json_fwd.hpp>

namespace mach::api {

// As ParseJson, but for such integers, which become binary values that hold their digits: templates
// print them (jinja/value.h). Throws RequestError.
nlohmann::ordered_json ParseKeepingBigIntegers(std::string_view text);

}  // namespace mach::api
