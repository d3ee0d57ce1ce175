// What the operating system says about this process. Any thread.
#pragma once

#include <cstdint>

namespace mach {

struct ProcessMemory {
  uint64_t rss_bytes = 0;  // 0 where the system does not tell
  uint64_t peak_rss_bytes = 0;
};

ProcessMemory ReadProcessMemory();

}  // namespace mach
