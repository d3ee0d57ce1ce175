#include "platform/process_memory.h"

#include <fstream>
#include <string>

#include <sys/resource.h>

namespace mach {

ProcessMemory ReadProcessMemory() {
  ProcessMemory memory;
  std::ifstream status("/proc/self/status");
  std::string key;
  while (status >> key) {
    uint64_t* field = key == "VmRSS:"   ? &memory.rss_bytes
                      : key == "VmHWM:" ? &memory.peak_rss_bytes
                                        : nullptr;
    uint64_t kibibytes = 0;
    if (field != nullptr && status >> kibibytes) {
      *field = kibibytes << 10;
    }
    std::getline(status, key);
  }
  if (memory.peak_rss_bytes == 0) {
    rusage usage{};
    if (getrusage(RUSAGE_SELF, &usage) == 0) {
#ifdef __APPLE__
      memory.peak_rss_bytes = static_cast<uint64_t>(usage.ru_maxrss);
#else
      memory.peak_rss_bytes = static_cast<uint64_t>(usage.ru_maxrss) << 10;
#endif
    }
  }
  return memory;
}

}  // namespace mach
