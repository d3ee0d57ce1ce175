// What the engine's work costs, from one look to the next, and whose it is: nothing is counted
// twice or left out. The inference thread's own.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/clock.h"
#include "engine/engine.h"
#include "experts/expert_store.h"

namespace mach::engine {

struct Cost {
  double begin_s = 0;  // NowSeconds()
  double end_s = 0;
  ExpertCost experts;

  double seconds() const { return end_s - begin_s; }
};

// Shares in proportion to `rows`, which are not negative and not all 0: integers add up to the
// whole.
inline std::vector<ExpertCost> Shares(const ExpertCost& cost, std::span<const int64_t> rows) {
  uint64_t all = 0;
  for (const int64_t count : rows) {
    all += static_cast<uint64_t>(count);
  }
  // What the first `some` rows have: each share is the difference of two of these.
  const auto first = [&](uint64_t some) {
    const auto of = [&](auto value) {
      return static_cast<decltype(value)>(static_cast<uint64_t>(value) * some / all);
    };
    return ExpertCost{of(cost.hits), of(cost.misses), of(cost.bytes_read),
                      cost.stall_s * static_cast<double>(some) / static_cast<double>(all)};
  };
  std::vector<ExpertCost> shares;
  uint64_t before = 0;
  for (const int64_t count : rows) {
    const uint64_t after = before + static_cast<uint64_t>(count);
    shares.push_back(first(after) - first(before));
    before = after;
  }
  return shares;
}

class CostMeter {
 public:
  // `experts` may be null and outlives the object.
  explicit CostMeter(const experts::ExpertStore* experts) : experts_(experts) { Lap(); }

  // Since the last one.
  Cost Lap() {
    Cost cost{.begin_s = seen_s_, .end_s = NowSeconds(), .experts = {}};
    seen_s_ = cost.end_s;
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
