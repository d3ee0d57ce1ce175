// Sizes of memory and files as messages and flags write them: in GB of 1e9 bytes.
#pragma once

#include <cstdint>
#include <string>

namespace mach {

// For people: "19.5 GB", "0.0142 GB"; three digits, rounded up, so that a flag set to it suffices.
std::string GigabytesText(uint64_t bytes);

// For a flag that must hold what a plan holds: "4", "0.072548352"; to the byte.
std::string GigabytesExact(uint64_t bytes);

}  // namespace mach
