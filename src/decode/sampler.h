// From logits to a token: bias, penalties, temperature, top-k, top-p, min-p, in this order (that of
// transformers' logits processors), then a draw.
//
// What is drawn is defined to the bit, and the same with every instruction set and C library.
// Tokens rank as logit_row.h says (of equal logits the smaller id first; NaN counts as minus
// infinity), and:
//   top_k  keeps the first top_k tokens of the ranking
//   top_p  of those, the first ones whose weights reach top_p of the weights of all of those
//          (LogitRow::AfterWeight; weights are probabilities, but for a factor)
//   min_p  of those, the ones whose logit is at least
//          float(best + temperature * log(min_p)), computed in double with PortableLog
// The token is that with the largest (logit - best) / temperature + noise, in double, of equal ones
// the smaller id; noise.h defines the noise, a function of seed, position and token. So the draw
// for a position never depends on how many draws came before: a verified draft and a single step
// choose the same token. Temperature 0, or an infinite logit, takes the first of the ranking.
//
// One per sequence; not thread-safe.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "decode/logit_row.h"
#include "decode/sampling_params.h"
#include "kernels/kernels.h"

namespace mach::decode {

// A seed for a request that gave none.
int64_t FreshSeed();

class Sampler {
 public:
  // `seed` replaces params.seed. `prompt` is what the repetition penalty also looks at.
  Sampler(const SamplingParams& params, int64_t seed, std::span<const int32_t> prompt,
          const kernels::KernelTable& table = kernels::Kernels(BestIsa()));

  // The token for generated position `position` (0 = first). `logits` is [vocab] and is used as
  // scratch. Tokens of `banned` are never chosen. NaN counts as minus infinity. Throws if no
  // token is left: kInvalidArgument where the request excluded them, else kInternal.
  int32_t Sample(std::span<float> logits, int64_t position, std::span<const int32_t> banned);

  // Tells the penalties what was generated.
  void Accept(int32_t token);

 private:
  void ApplyBiasAndPenalties(std::span<float> logits) const;
  // The least logit that the filters keep. Of tokens that have it, those that fall behind become
  // minus infinity.
  float Filter(const LogitRow& row, std::span<float> logits) const;

  const kernels::KernelTable* table_;
  SamplingParams params_;
  int64_t seed_;
  bool has_penalties_;
  std::unordered_map<int32_t, int32_t> generated_counts_;
  std::unordered_map<int32_t, bool> seen_;  // prompt or generated; filled only if penalised
};

}  // namespace mach::decode
