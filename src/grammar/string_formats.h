// Formats of strings. For use inside grammar/ only.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace mach::grammar {

enum class FormatSupport {
  kEnforced,
  kNotEnforced,
  kNoMeaning,  // no draft defines it: a note to whom it may concern
};

FormatSupport SupportOf(std::string_view format);

// What a string of an enforced format matches, all of them, in the library's own syntax. None for
// those that the library knows by their name. Dates know leap years; a leap second cannot be
// written.
std::vector<std::string> FormatPatterns(std::string_view format);

}  // namespace mach::grammar
