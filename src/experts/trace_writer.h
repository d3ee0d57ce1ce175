// Records routing while a model runs: which experts each decode step asked each layer for. Not how
// many rows of a step each was for: a replay takes a step for a token.
//
// File: kTraceMagic, int32 MoE layers, int32 experts; then for each layer of each step uint32 step,
// uint16 layer, uint16 count, uint16 ids[count]. Little-endian.
#pragma once

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <span>
#include <string_view>

#include "experts/cache_policy.h"

namespace mach::experts {

inline constexpr std::string_view kTraceMagic = "MACHTRC1";

// Appends to a new file through a buffer. Not thread-safe. A failed write is logged once and ends
// the recording.
class TraceWriter {
 public:
  // Throws kIo naming the file.
  TraceWriter(const std::filesystem::path& path, const CacheShape& shape);

  void Append(int32_t layer, std::span<const int32_t> ids);

 private:
  struct Close {
    void operator()(std::FILE* file) const;  // logs if the last bytes could not be written
  };
  void Write(const void* bytes, size_t size);

  std::unique_ptr<std::FILE, Close> file_;
  uint32_t step_ = 0;
  int32_t last_layer_ = -1;
};

}  // namespace mach::experts
