// What the control groups of a process (Linux cgroups, versions 1 and 2) leave it of memory and
// processor. Any thread.
//
// As seen from outside or from inside a container; a group above may limit too. `membership` is the
// text of the process's /proc/PID/cgroup, `root` where the groups are mounted.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace mach {

// How much more memory the process's cgroups allow; nullopt if none sets a limit.
std::optional<uint64_t> ControlGroupRoom(const std::string& membership,
                                         const std::filesystem::path& root);

// How many processors' time they allow, rounded up; nullopt if none sets a limit.
std::optional<int> ControlGroupProcessors(const std::string& membership,
                                          const std::filesystem::path& root);

// Those of this process.
std::string ControlGroupMembership();
inline constexpr const char* kControlGroupRoot = "/sys/fs/cgroup";

}  // namespace mach
