// How much memory this machine has and could give to a new process. Any thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace mach {

struct MachineMemory {
  uint64_t total_bytes = 0;
  // Without swapping, caches that can be dropped included, and within the limit of the control
  // group that the process runs in. 0 where the system does not tell, else at least 1.
  uint64_t available_bytes = 0;
};

MachineMemory ReadMachineMemory();

// Of that, what the memory control groups of a process leave; nothing without a limit. Versions 1
// and 2, as seen from outside or from inside a container; a group above may limit too. `membership`
// is the text of its /proc/PID/cgroup, `root` where the groups are mounted.
std::optional<uint64_t> ControlGroupRoom(const std::string& membership,
                                         const std::filesystem::path& root);

}  // namespace mach
