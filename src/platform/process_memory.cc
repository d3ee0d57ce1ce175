#include "platform/process_memory.h"

#include <sys/resource.h>

#include "platform/proc_file.h"

namespace mach {

ProcessMemory ReadProcessMemory() {
  ProcessMemory memory;
  ReadProcSizes("/proc/self/status",
                {{"VmRSS:", &memory.rss_bytes}, {"VmHWM:", &memory.peak_rss_bytes}});
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
