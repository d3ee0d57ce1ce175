// Recorded routing (experts/trace_writer.h), read back to be replayed by policy_simulator.h.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "experts/cache_policy.h"

namespace mach::testing_support {

struct RoutingEvent {
  uint32_t step = 0;
  int32_t layer = 0;         // counted over the layers that have experts
  std::vector<int32_t> ids;  // distinct, ascending
};

struct RoutingTrace {
  experts::CacheShape shape;
  std::vector<RoutingEvent> events;

  // Throws kCorruptFile naming the offset, kNotFound or kIo. A last event cut short (the writer was
  // killed) is left out.
  static RoutingTrace Load(const std::filesystem::path& path);
};

}  // namespace mach::testing_support
