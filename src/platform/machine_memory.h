// How much memory this machine has and could give to a new process. Any thread.
#pragma once

#include <cstdint>

namespace mach {

struct MachineMemory {
  uint64_t total_bytes = 0;
  // Without swapping, caches that can be dropped included, and within the limit of the control
  // group that the process runs in. 0 where the system does not tell, else at least 1.
  uint64_t available_bytes = 0;
};

MachineMemory ReadMachineMemory();

}  // namespace mach
