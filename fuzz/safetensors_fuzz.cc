// Any bytes as a safetensors file: an Error, or tensors that lie inside the file.
#include <cstdint>
#include <string>

#include "base/error.h"
#include "formats/safetensors.h"
#include "tests/support/memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const auto file = mach::formats::SafetensorsFile::Open(mach::testing_support::OpenMemoryFile(
        "fuzz", std::string(reinterpret_cast<const char*>(data), size)));
    for (const std::string& name : file->names()) {
      const auto tensor = file->Find(name);
      unsigned sum = 0;
      for (const std::byte b : tensor->bytes) {
        sum += static_cast<unsigned>(b);
      }
      if (tensor->bytes.size() > size || sum > 255U * size) {
        __builtin_trap();
      }
    }
  } catch (const mach::Error&) {
  }
  return 0;
}
