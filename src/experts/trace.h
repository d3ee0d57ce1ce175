// Recorded routing: which experts each decode step asked each layer for. Written while a model
// runs, replayed by policy_simulator.h.
//
// File: "MACHTRC1", int32 MoE layers, int32 experts; then for each layer of each step uint32 step,
// uint16 layer, uint16 count, uint16 ids[count]. Little-endian.
#pragma once

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "experts/cache_policy.h"

namespace mach::experts {

struct RoutingEvent {
  uint32_t step = 0;
  int32_t layer = 0;         // counted over the layers that have experts
  std::vector<int32_t> ids;  // distinct, ascending
};

struct RoutingTrace {
  CacheShape shape;
  std::vector<RoutingEvent> events;

  // Throws kCorruptFile naming the offset, kNotFound or kIo. A last event cut short (the writer was
  // killed) is left out.
  static RoutingTrace Load(const std::filesystem::path& path);
};

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
