// From logits to a token: bias, penalties, temperature, top-k, top-p, min-p, in this order (that of
// transformers' logits processors), then a draw.
//
// The draw for a position depends on seed and position alone, never on how many draws came before:
// a verified draft and a single step choose the same token. Arithmetic is double, ties go to the
// smaller id. One per sequence; not thread-safe.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "decode/sampling_params.h"

namespace mach::decode {

struct TokenLogprob {
  int32_t token = 0;
  float logprob = 0;
};

// A seed for a request that gave none.
int64_t FreshSeed();

class Sampler {
 public:
  // `seed` replaces params.seed. `prompt` is what the repetition penalty also looks at.
  Sampler(const SamplingParams& params, int64_t seed, std::span<const int32_t> prompt);

  // The token for generated position `position` (0 = first). `logits` is [vocab] and is used as
  // scratch. Tokens of `banned` are never chosen. NaN counts as minus infinity. Throws if no
  // token is left: kInvalidArgument where the request excluded them, else kInternal.
  int32_t Sample(std::span<float> logits, int64_t position, std::span<const int32_t> banned);

  // Tells the penalties what was generated.
  void Accept(int32_t token);

 private:
  void ApplyBiasAndPenalties(std::span<float> logits) const;

  SamplingParams params_;
  int64_t seed_;
  bool has_penalties_;
  std::unordered_map<int32_t, int32_t> generated_counts_;
  std::unordered_map<int32_t, bool> seen_;  // prompt or generated; filled only if penalised
};

// Log-probability of `token`, and of the `top` likeliest tokens in descending order (ties: smaller
// id first), under softmax of the untouched logits.
TokenLogprob Logprob(std::span<const float> logits, int32_t token, int32_t top,
                     std::vector<TokenLogprob>* alternatives);

}  // namespace mach::decode
