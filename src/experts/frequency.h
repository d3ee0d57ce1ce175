// How often each expert was used lately: counts that halve every `half_life` tokens.
//
// All counts decay alike, so their order never changes by decay alone, and nothing is touched but
// the count that grows: a use adds a weight that doubles every half-life. Values, not thread-safe.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

namespace mach::experts {

class DecayedFrequency {
 public:
  DecayedFrequency(int64_t keys, double half_life)
      : counts_(static_cast<size_t>(keys), 0.0), growth_(std::exp2(1.0 / half_life)) {}

  // A step of so many tokens begins, at least one. Which of them use an expert is not told: each
  // use weighs the mean of what it would, had the tokens come one by one.
  void BeginStep(int64_t tokens) {
    double sum = 0;
    for (int64_t i = 0; i < tokens; ++i) {
      weight_ *= growth_;
      if (weight_ > kMaxWeight) {
        for (double& count : counts_) {
          count /= kMaxWeight;
        }
        sum /= kMaxWeight;
        weight_ /= kMaxWeight;
      }
      sum += weight_;
    }
    use_weight_ = sum / static_cast<double>(tokens);
  }
  // So many tokens of the step use it.
  void Add(int64_t key, int64_t uses) {
    counts_[static_cast<size_t>(key)] += static_cast<double>(uses) * use_weight_;
  }
  // As if it had long been used by this share of the tokens.
  void SetRate(int64_t key, double rate) {
    counts_[static_cast<size_t>(key)] = rate / RateOf(1) * weight_;
  }

  // Decayed number of uses.
  double Uses(int64_t key) const { return counts_[static_cast<size_t>(key)] / weight_; }
  // The same but for a common factor: for comparing.
  double Raw(int64_t key) const { return counts_[static_cast<size_t>(key)]; }
  double RawAfterUse(int64_t key) const { return Raw(key) + use_weight_; }
  // Share of tokens that use it, 0 to 1.
  double Rate(int64_t key) const { return RateOf(Uses(key)); }
  double RateOf(double uses) const { return uses * (1.0 - 1.0 / growth_); }

 private:
  static constexpr double kMaxWeight = 0x1p400;

  std::vector<double> counts_;  // [keys]
  double weight_ = 1.0;         // of a use by the last token
  double use_weight_ = 1.0;     // of a use in this step
  double growth_;               // of the weight, per token
};

// Tells steps apart: the layers of one ascend.
class StepClock {
 public:
  // True if a step begins with it.
  bool BeginLayer(int32_t layer) {
    const bool begins = layer <= layer_ || layer_ < 0;
    layer_ = layer;
    return begins;
  }
  int32_t layer() const { return layer_; }  // -1 before the first

 private:
  int32_t layer_ = -1;
};

}  // namespace mach::experts
