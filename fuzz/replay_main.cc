// Runs a fuzz target over the files of directories, without libFuzzer: the corpus as a test. An
// input that the target cannot take ends the process, as it does under the fuzzer; the last line
// printed names it.
//
// usage: NAME_fuzz DIRECTORY ...
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    std::vector<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator(argv[i])) {
      files.push_back(entry.path());
    }
    std::sort(files.begin(), files.end());
    for (const auto& path : files) {
      std::cout << path.string() << std::endl;
      std::ifstream file(path, std::ios::binary);
      const std::string bytes{std::istreambuf_iterator<char>(file), {}};
      if (!file) {
        return 1;
      }
      LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
    }
    if (files.empty()) {
      std::cout << argv[i] << " is empty" << std::endl;
      return 1;
    }
  }
  return argc > 1 ? 0 : 1;
}
