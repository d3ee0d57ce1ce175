// How often each expert was used lately: counts that halve every `half_life` ticks.
//
// All counts decay alike, so their order never changes by decay alone, and nothing is touched but
// the count that grows: a use adds a weight that doubles every half-life. A value, not thread-safe.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

namespace mach::experts {

class DecayedFrequency {
 public:
  DecayedFrequency(int64_t keys, double half_life)
      : counts_(static_cast<size_t>(keys), 0.0), growth_(std::exp2(1.0 / half_life)) {}

  void Tick() {
    weight_ *= growth_;
    if (weight_ > kMaxWeight) {
      for (double& count : counts_) {
        count /= kMaxWeight;
      }
      weight_ /= kMaxWeight;
    }
  }
  void Add(int64_t key) { counts_[static_cast<size_t>(key)] += weight_; }
  // As if it had long been used in this share of the ticks.
  void SetRate(int64_t key, double rate) {
    counts_[static_cast<size_t>(key)] = rate / RateOf(1) * weight_;
  }

  // Decayed number of uses.
  double Uses(int64_t key) const { return counts_[static_cast<size_t>(key)] / weight_; }
  // The same but for a common factor: for comparing.
  double Raw(int64_t key) const { return counts_[static_cast<size_t>(key)]; }
  double RawAfterUse(int64_t key) const { return Raw(key) + weight_; }
  // Share of ticks with a use of it, 0 to 1.
  double Rate(int64_t key) const { return RateOf(Uses(key)); }
  double RateOf(double uses) const { return uses * (1.0 - 1.0 / growth_); }

 private:
  static constexpr double kMaxWeight = 0x1p400;

  std::vector<double> counts_;  // [keys]
  double weight_ = 1.0;         // of a use now
  double growth_;               // of the weight, per tick
};

}  // namespace mach::experts
