#include "platform/machine_memory.h"

#include <algorithm>

#include <unistd.h>

#include "platform/control_group.h"
#include "platform/proc_file.h"

namespace mach {

MachineMemory ReadMachineMemory() {
  MachineMemory memory;
  ReadProcSizes("/proc/meminfo",
                {{"MemTotal:", &memory.total_bytes}, {"MemAvailable:", &memory.available_bytes}});
  if (memory.total_bytes == 0) {
    // Elsewhere: half of the machine's memory is taken to be free for us.
    const auto pages = ::sysconf(_SC_PHYS_PAGES);
    const auto page_bytes = ::sysconf(_SC_PAGESIZE);
    if (pages > 0 && page_bytes > 0) {
      memory.total_bytes = static_cast<uint64_t>(pages) * static_cast<uint64_t>(page_bytes);
      memory.available_bytes = memory.total_bytes / 2;
    }
  }
  if (const auto room = ControlGroupRoom(ControlGroupMembership(), kControlGroupRoot)) {
    memory.available_bytes =
        memory.available_bytes == 0 ? *room : std::min(memory.available_bytes, *room);
  }
  return memory;
}

}  // namespace mach
