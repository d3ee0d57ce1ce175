// How diverse the routing of decode steps is. A speed with streamed experts says little without it:
// random weights, for one, can send every token to the same few experts.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "experts/cache_policy.h"

namespace mach::experts {

// Means over the layers.
struct RoutingSummary {
  int64_t steps = 0;
  int32_t experts = 0;  // of a layer
  double distinct = 0;  // of them, used at least once
  // exp(entropy) of the usage shares (perplexity): the number of equally popular experts with the
  // same entropy.
  double effective = 0;
  double top = 0;       // share of the steps that used the most popular one
  double repeated = 0;  // share of a step's experts that the step before had used too
};

// A value, not thread-safe.
class RoutingStats {
 public:
  explicit RoutingStats(const CacheShape& shape);

  // One layer of one step; `ids` are distinct.
  void Add(int32_t moe_layer, std::span<const int32_t> ids);
  RoutingSummary Summary() const;  // of layers with at least one step

 private:
  struct Layer {
    int64_t steps = 0;
    std::vector<int64_t> uses;       // [experts]
    std::vector<int64_t> last_step;  // [experts] that used it, counted from 1; 0: none
    int64_t chosen_later = 0;        // uses in all steps but the first
    int64_t repeated = 0;            // of them, used in the step before too
  };

  CacheShape shape_;
  std::vector<Layer> layers_;
};

}  // namespace mach::experts
