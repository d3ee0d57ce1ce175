#include "platform/machine_memory.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

#include <unistd.h>

#include "platform/proc_file.h"

namespace mach {
namespace {

namespace fs = std::filesystem;

// One kind of control group: where it is mounted and what its files are called.
struct GroupFiles {
  const char* dir;  // below the root
  const char* limit;
  const char* used;
  // Of memory.stat: page cache of the group and those below it, which is given up when it is
  // wanted.
  const char* inactive_file;
  const char* active_file;
};

constexpr GroupFiles kVersion1 = {"memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
                                  "total_inactive_file", "total_active_file"};
constexpr GroupFiles kVersion2 = {"", "memory.max", "memory.current", "inactive_file",
                                  "active_file"};

// Version 1 writes "no limit" as a number of about 2^63.
constexpr uint64_t kNoLimit = uint64_t{1} << 60;

// A number of bytes alone in a file; nothing if there is none ("max").
std::optional<uint64_t> ReadNumber(const fs::path& path) {
  std::ifstream file(path);
  uint64_t value = 0;
  return file >> value ? std::optional(value) : std::nullopt;
}

uint64_t DroppableBytes(const fs::path& group, const GroupFiles& files) {
  std::ifstream stat(group / "memory.stat");
  uint64_t sum = 0;
  uint64_t bytes = 0;
  for (std::string key; stat >> key >> bytes;) {
    sum += key == files.inactive_file || key == files.active_file ? bytes : 0;
  }
  return sum;
}

std::optional<uint64_t> RoomOf(const fs::path& group, const GroupFiles& files) {
  const auto limit = ReadNumber(group / files.limit);
  if (!limit || *limit >= kNoLimit) {
    return std::nullopt;
  }
  const uint64_t used = ReadNumber(group / files.used).value_or(0);
  const uint64_t kept = used - std::min(used, DroppableBytes(group, files));
  return std::max<uint64_t>(1, *limit > kept ? *limit - kept : 0);
}

// The group and those above it, up to the root of the mount; inside a container the path leads
// nowhere, and the root is the group itself.
std::vector<fs::path> Chain(const fs::path& root, const std::string& group) {
  std::vector<fs::path> chain = {root};
  fs::path dir = root;
  for (const fs::path& part : fs::path(group).relative_path()) {
    dir /= part;
    chain.push_back(dir);
  }
  return chain;
}

// "4:cpu,memory:/path": version 1's controllers are between the colons, version 2 has none.
const GroupFiles* KindOf(const std::string& controllers) {
  if (controllers.empty()) {
    return &kVersion2;
  }
  return ("," + controllers + ",").find(",memory,") != std::string::npos ? &kVersion1 : nullptr;
}

}  // namespace

std::optional<uint64_t> ControlGroupRoom(const std::string& membership, const fs::path& root) {
  std::optional<uint64_t> room;
  std::istringstream lines(membership);
  for (std::string line; std::getline(lines, line);) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) {
      continue;
    }
    const GroupFiles* files = KindOf(line.substr(first + 1, second - first - 1));
    if (files == nullptr) {
      continue;
    }
    for (const fs::path& group :
         Chain(files->dir[0] == 0 ? root : root / files->dir, line.substr(second + 1))) {
      if (const auto left = RoomOf(group, *files)) {
        room = std::min(room.value_or(*left), *left);
      }
    }
  }
  return room;
}

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
  std::ifstream membership("/proc/self/cgroup");
  const std::string text(std::istreambuf_iterator<char>(membership), {});
  if (const auto room = ControlGroupRoom(text, "/sys/fs/cgroup")) {
    memory.available_bytes =
        memory.available_bytes == 0 ? *room : std::min(memory.available_bytes, *room);
  }
  return memory;
}

}  // namespace mach
