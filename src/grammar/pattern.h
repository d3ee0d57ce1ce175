// Regular expressions as JSON Schema has them (ECMA 262, with Unicode) in the syntax that
// llguidance reads. For use inside grammar/ only.
#pragma once

#include <string>
#include <string_view>

namespace mach::grammar {

// Matches the same texts. Throws kInvalidArgument, which names the construct, for those that
// regular languages do not have: look-around, word boundaries, back references.
std::string TranslatePattern(std::string_view pattern);

}  // namespace mach::grammar
