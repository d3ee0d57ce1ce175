#include "platform/control_group.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <limits>
#include <sstream>
#include <vector>

namespace mach {
namespace {

namespace fs = std::filesystem;

// The memory files of one version.
struct MemoryFiles {
  const char* limit;
  const char* used;
  // Of memory.stat: page cache of the group and those below it, which is given up when it is
  // wanted.
  const char* inactive_file;
  const char* active_file;
};

constexpr MemoryFiles kMemory1 = {"memory.limit_in_bytes", "memory.usage_in_bytes",
                                  "total_inactive_file", "total_active_file"};
constexpr MemoryFiles kMemory2 = {"memory.max", "memory.current", "inactive_file", "active_file"};

// Version 1 writes "no limit" as a number of about 2^63.
constexpr uint64_t kNoLimit = uint64_t{1} << 60;

// A group that a process is in, or one above it.
struct Group {
  fs::path dir;
  bool version1 = false;
};

// The group and those above it, up to the root of the mount; inside a container the path leads
// nowhere, and the root is the group itself.
void AppendChain(const fs::path& root, const std::string& group, bool version1,
                 std::vector<Group>& chain) {
  chain.push_back({root, version1});
  fs::path dir = root;
  for (const fs::path& part : fs::path(group).relative_path()) {
    dir /= part;
    chain.push_back({dir, version1});
  }
}

// Lines of "4:cpu,memory:/path": version 1's controllers are between the colons, and each is
// mounted by its name; version 2 has none.
std::vector<Group> GroupsOf(const std::string& membership, const fs::path& root,
                            const std::string& controller) {
  std::vector<Group> groups;
  std::istringstream lines(membership);
  for (std::string line; std::getline(lines, line);) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) {
      continue;
    }
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string group = line.substr(second + 1);
    if (controllers.empty()) {
      AppendChain(root, group, /*version1=*/false, groups);
    } else if (("," + controllers + ",").find("," + controller + ",") != std::string::npos) {
      AppendChain(root / controller, group, /*version1=*/true, groups);
    }
  }
  return groups;
}

template <typename T>
void LowerTo(std::optional<T>& limit, const std::optional<T>& other) {
  if (other) {
    limit = std::min(limit.value_or(*other), *other);
  }
}

// The first number of a file; nothing if there is none ("max").
std::optional<int64_t> ReadNumber(const fs::path& path) {
  std::ifstream file(path);
  int64_t value = 0;
  return file >> value ? std::optional(value) : std::nullopt;
}

uint64_t DroppableBytes(const fs::path& group, const MemoryFiles& files) {
  std::ifstream stat(group / "memory.stat");
  uint64_t sum = 0;
  uint64_t bytes = 0;
  for (std::string key; stat >> key >> bytes;) {
    sum += key == files.inactive_file || key == files.active_file ? bytes : 0;
  }
  return sum;
}

std::optional<uint64_t> RoomOf(const Group& group) {
  const MemoryFiles& files = group.version1 ? kMemory1 : kMemory2;
  const auto number = ReadNumber(group.dir / files.limit);
  if (!number || *number < 0 || static_cast<uint64_t>(*number) >= kNoLimit) {
    return std::nullopt;
  }
  const auto limit = static_cast<uint64_t>(*number);
  const auto used =
      static_cast<uint64_t>(std::max<int64_t>(ReadNumber(group.dir / files.used).value_or(0), 0));
  const uint64_t kept = used - std::min(used, DroppableBytes(group.dir, files));
  return std::max<uint64_t>(1, limit > kept ? limit - kept : 0);
}

// Version 2: one file, "QUOTA PERIOD", both in microseconds, or "max PERIOD". Version 1: a file for
// each, and a quota of -1 is none.
std::optional<int> ProcessorsOf(const Group& group) {
  std::optional<int64_t> quota;
  std::optional<int64_t> period;
  if (group.version1) {
    quota = ReadNumber(group.dir / "cpu.cfs_quota_us");
    period = ReadNumber(group.dir / "cpu.cfs_period_us");
  } else {
    std::ifstream file(group.dir / "cpu.max");
    int64_t values[2] = {};
    if (file >> values[0] >> values[1]) {
      quota = values[0];
      period = values[1];
    }
  }
  if (!quota || !period || *quota <= 0 || *period <= 0) {
    return std::nullopt;
  }
  const int64_t processors = *quota / *period + (*quota % *period > 0 ? 1 : 0);
  return static_cast<int>(std::min<int64_t>(processors, std::numeric_limits<int>::max()));
}

}  // namespace

std::optional<uint64_t> ControlGroupRoom(const std::string& membership, const fs::path& root) {
  std::optional<uint64_t> room;
  for (const Group& group : GroupsOf(membership, root, "memory")) {
    LowerTo(room, RoomOf(group));
  }
  return room;
}

std::optional<int> ControlGroupProcessors(const std::string& membership, const fs::path& root) {
  std::optional<int> processors;
  for (const Group& group : GroupsOf(membership, root, "cpu")) {
    LowerTo(processors, ProcessorsOf(group));
  }
  return processors;
}

std::string ControlGroupMembership() {
  std::ifstream file("/proc/self/cgroup");
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace mach
