// Whether the tests run under an emulator of another processor, as tests/suites/30-unit.sh says of
// its builds: what such a machine lacks, or how long it takes, says nothing of the program.
#pragma once

#include <cstdlib>

namespace mach::testing_support {

inline bool IsEmulated() {
  return std::getenv("MACH_EMULATED") != nullptr;
}

}  // namespace mach::testing_support
