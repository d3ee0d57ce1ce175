// Sizes in Linux's /proc files of lines "Name:  123 kB". Any thread; does nothing elsewhere.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string_view>

namespace mach {

struct ProcSize {
  std::string_view name;  // with its colon: "VmRSS:"
  uint64_t* bytes;        // left alone if the file has no such line
};

void ReadProcSizes(const char* path, std::initializer_list<ProcSize> wanted);

}  // namespace mach
