// What the engine's work costs, from one look to the next: nothing is counted twice or left out.
// The inference thread's own.
#pragma once

#include "base/clock.h"
#include "engine/engine.h"
#include "experts/expert_store.h"

namespace mach::engine {

struct Cost {
  double seconds = 0;
  ExpertCost experts;
};

class CostMeter {
 public:
  // `experts` may be null and outlives the object.
  explicit CostMeter(const experts::ExpertStore* experts) : experts_(experts) { Lap(); }

  // Since the last one.
  Cost Lap() {
    Cost cost;
    const double now_s = NowSeconds();
    cost.seconds = now_s - seen_s_;
    seen_s_ = now_s;
    if (experts_ != nullptr) {
      const ExpertCost now = ExpertCost::Of(experts_->Stats());
      cost.experts = now - seen_;
      seen_ = now;
    }
    return cost;
  }

 private:
  const experts::ExpertStore* experts_;
  double seen_s_ = NowSeconds();
  ExpertCost seen_;
};

}  // namespace mach::engine
