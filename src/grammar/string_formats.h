// Formats of strings that are enforced. For use inside grammar/ only.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace mach::grammar {

// Whether llguidance enforces it as it is.
bool IsBuiltInFormat(std::string_view format);

// Of others that are enforced, the pattern. Dates know leap years; a leap second cannot be written.
std::optional<std::string> FormatPattern(std::string_view format);

}  // namespace mach::grammar
