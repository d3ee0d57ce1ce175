// Replays recorded routing against cache policies, without weights: what share of requests would
// have been hits. For bench/cache_policy_sim and tests.
#pragma once

#include <cstdint>
#include <string_view>

#include "tests/support/routing_trace.h"

namespace mach::testing_support {

struct SimulatedHits {
  int64_t requests = 0;
  int64_t hits = 0;

  double rate() const {
    return requests == 0 ? 0 : static_cast<double>(hits) / static_cast<double>(requests);
  }
};

// As the streamed store does it: all experts of an event are requested at once, and none of them is
// evicted for another. `capacity` is at least the largest event.
SimulatedHits SimulatePolicy(const RoutingTrace& trace, std::string_view policy, int64_t capacity);

// Belady's optimum under the same rule: evicts what is needed again last. What no policy can beat.
SimulatedHits SimulateOptimum(const RoutingTrace& trace, int64_t capacity);

struct SyntheticRouting {
  experts::CacheShape shape = {16, 64};
  int32_t top_k = 8;
  int32_t steps = 1000;
  double skew = 1.0;       // Zipf exponent of an expert's weight within its layer
  double repeat = 0.0;     // share of choices taken over from the step before
  double drift_steps = 0;  // mean steps until two experts of a layer swap weights; 0: never
  uint64_t seed = 1;
};
RoutingTrace MakeSyntheticTrace(const SyntheticRouting& routing);

}  // namespace mach::testing_support
