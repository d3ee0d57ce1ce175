#include "experts/routing_stats.h"

#include <algorithm>
#include <cmath>

namespace mach::experts {

RoutingStats::RoutingStats(const CacheShape& shape)
    : shape_(shape), layers_(static_cast<size_t>(shape.layers)) {
  for (Layer& layer : layers_) {
    layer.uses.resize(static_cast<size_t>(shape.experts), 0);
    layer.last_step.resize(static_cast<size_t>(shape.experts), 0);
  }
}

void RoutingStats::Add(int32_t moe_layer, std::span<const int32_t> ids) {
  Layer& layer = layers_[static_cast<size_t>(moe_layer)];
  const bool first = layer.steps++ == 0;
  layer.chosen_later += first ? 0 : static_cast<int64_t>(ids.size());
  for (const int32_t id : ids) {
    const auto i = static_cast<size_t>(id);
    ++layer.uses[i];
    layer.repeated += !first && layer.last_step[i] == layer.steps - 1 ? 1 : 0;
    layer.last_step[i] = layer.steps;
  }
}

RoutingSummary RoutingStats::Summary() const {
  RoutingSummary sum = {.experts = shape_.experts};
  int64_t seen = 0;
  for (const Layer& layer : layers_) {
    int64_t total = 0;
    for (const int64_t uses : layer.uses) {
      total += uses;
    }
    if (total == 0) {
      continue;
    }
    ++seen;
    double entropy = 0;
    for (const int64_t uses : layer.uses) {
      if (uses > 0) {
        const double share = static_cast<double>(uses) / static_cast<double>(total);
        entropy -= share * std::log(share);
        ++sum.distinct;
      }
    }
    sum.steps = std::max(sum.steps, layer.steps);
    sum.effective += std::exp(entropy);
    sum.top += static_cast<double>(*std::ranges::max_element(layer.uses)) /
               static_cast<double>(layer.steps);
    sum.repeated += layer.chosen_later > 0 ? static_cast<double>(layer.repeated) /
                                                 static_cast<double>(layer.chosen_later)
                                           : 0;
  }
  if (seen > 0) {
    for (double* mean : {&sum.distinct, &sum.effective, &sum.top, &sum.repeated}) {
      *mean /= static_cast<double>(seen);
    }
  }
  return sum;
}

}  // namespace mach::experts
