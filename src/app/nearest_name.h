// Which known name a mistyped one probably meant.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace mach::app {

// The known name with the smallest edit distance, if that is at most a third of its length;
// otherwise empty.
std::string NearestName(std::string_view typed, const std::vector<std::string>& known);

}  // namespace mach::app
