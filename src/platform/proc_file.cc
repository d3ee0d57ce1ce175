#include "platform/proc_file.h"

#include <fstream>
#include <string>

namespace mach {

void ReadProcSizes(const char* path, std::initializer_list<ProcSize> wanted) {
  std::ifstream file(path);
  std::string word;
  while (file >> word) {
    for (const ProcSize& size : wanted) {
      uint64_t kibibytes = 0;
      if (word == size.name && file >> kibibytes) {
        *size.bytes = kibibytes << 10;
      }
    }
    std::getline(file, word);
  }
}

}  // namespace mach
