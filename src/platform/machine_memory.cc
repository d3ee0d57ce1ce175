#include "platform/machine_memory.h"

#include <algorithm>
#include <fstream>
#include <string>

#include <unistd.h>

namespace mach {
namespace {

// A number of bytes alone in a file; `otherwise` if there is none ("max").
uint64_t ReadNumber(const std::string& path, uint64_t otherwise) {
  std::ifstream file(path);
  uint64_t value = 0;
  return file >> value ? value : otherwise;
}

// What the control group of this process may still take; version 2, as seen from inside a container
// or below the group's own path.
uint64_t ControlGroupRoom() {
  std::string group;
  std::ifstream membership("/proc/self/cgroup");
  for (std::string line; std::getline(membership, line);) {
    if (line.starts_with("0::")) {
      group = line.substr(3);
    }
  }
  uint64_t room = UINT64_MAX;
  for (const std::string& dir :
       {std::string("/sys/fs/cgroup"), "/sys/fs/cgroup" + (group == "/" ? "" : group)}) {
    const uint64_t limit = ReadNumber(dir + "/memory.max", UINT64_MAX);
    const uint64_t used = ReadNumber(dir + "/memory.current", 0);
    if (limit != UINT64_MAX) {
      room = std::min(room, limit > used ? limit - used : 0);
    }
  }
  return room;
}

}  // namespace

MachineMemory ReadMachineMemory() {
  MachineMemory memory;
  std::ifstream file("/proc/meminfo");
  std::string key;
  while (file >> key) {
    uint64_t* field = key == "MemTotal:"       ? &memory.total_bytes
                      : key == "MemAvailable:" ? &memory.available_bytes
                                               : nullptr;
    uint64_t kibibytes = 0;
    if (field != nullptr && file >> kibibytes) {
      *field = kibibytes << 10;
    }
    std::getline(file, key);
  }
  if (memory.total_bytes == 0) {
    // Elsewhere: half of the machine's memory is taken to be free for us.
    const auto pages = ::sysconf(_SC_PHYS_PAGES);
    const auto page_bytes = ::sysconf(_SC_PAGESIZE);
    if (pages > 0 && page_bytes > 0) {
      memory.total_bytes = static_cast<uint64_t>(pages) * static_cast<uint64_t>(page_bytes);
      memory.available_bytes = memory.total_bytes / 2;
    }
  }
  memory.available_bytes = std::min(memory.available_bytes, ControlGroupRoom());
  return memory;
}

}  // namespace mach
