// One row of logits, and how its tokens rank: descending by logit, of equals the smaller id first;
// NaN is no token. Answers how far down the ranking a filter goes, without sorting it: blocks of
// tokens that cannot matter are skipped by their maximum, the rest is counted in buckets.
//
// Weights. A token weighs round(Exp((logit - best) * float(1 / temperature)) * 2^40), in fp32 up to
// the rounding, half to even, with Exp of kernels/simd-inl.h: an integer, 0 from 28.4 nats below
// the best. So sums do not depend on their order.
//
// Borrows the logits. One thread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "decode/noise.h"
#include "kernels/kernels.h"

namespace mach::decode {

class LogitRow {
 public:
  // The last token that a filter keeps.
  struct Cut {
    float logit = 0;
    int32_t token = 0;
    std::vector<int32_t> equals_left_out;  // same logit, but later in the ranking
  };

  LogitRow(const kernels::KernelTable& table, std::span<const float> logits);

  // The largest logit; -infinity if there is none above that.
  float best() const { return best_; }
  int32_t BestToken() const;

  // The cut after the `count` first tokens; nothing if there are no more than that.
  std::optional<Cut> AfterCount(int32_t count) const;

  // The cut where the weights of the first tokens reach floor(share * total), at least 1, computed
  // in double; the total is over tokens of at least `least`. Needs a finite best().
  Cut AfterWeight(float share, float temperature, float least) const;

  // The weights of all tokens together, in units of the best one's. Needs a finite best().
  double TotalWeight(float temperature) const;

  // The first `count` tokens, in order.
  std::vector<int32_t> First(int32_t count) const;

  // Of the tokens of at least `least` that with the largest
  // (double(logit) - double(best)) / double(temperature) + noise. Needs a finite best().
  int32_t Draw(float temperature, float least, const GumbelNoise& noise) const;

 private:
  struct Entry {
    float logit;
    int32_t token;
    int64_t weight;
  };

  static bool Before(const Entry& a, const Entry& b);
  static Cut Descend(std::vector<Entry> entries, int64_t left);
  // The tokens of at least `least`, by id, with a weight of 1.
  std::vector<Entry> AtLeast(float least) const;
  // The tokens in one bucket of AfterWeight.
  std::vector<Entry> InBucket(uint32_t bucket, const kernels::TokenScale& by) const;
  // A logit that no more than `count` blocks' maxima surpass, if there are so many blocks.
  float LeastOfFirst(int32_t count) const;
  // `nats` below the best, tokens cannot matter.
  kernels::TokenScale Scale(float temperature, float least, double nats) const;
  // Calls f(begin, end) for runs of tokens that include all of at least `least`.
  template <class F>
  void ForRuns(float least, const F& f) const;
  // Calls f(token, logit) for the tokens with low <= logit <= high, by id.
  template <class F>
  void ForTokensBetween(float low, float high, const F& f) const;

  const kernels::KernelTable& table_;
  std::span<const float> logits_;
  std::vector<float> maxima_;  // of blocks of kTokenBlock tokens
  float best_;
};

}  // namespace mach::decode
