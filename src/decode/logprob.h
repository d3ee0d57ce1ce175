// Log-probabilities as clients are told them: of the softmax of the untouched logits, whatever the
// sampler does to them. Pure; any thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/kernels.h"

namespace mach::decode {

struct TokenLogprob {
  int32_t token = 0;
  float logprob = 0;
};

// Log-probability of `token`, and of the `top` likeliest tokens in the order of logit_row.h:
//   float((double(logit) - double(best)) - log(total)),  total = LogitRow::TotalWeight(1)
// with PortableLog; within 1e-6 of the exact value. Where a logit is infinite, so are all: 0 for
// tokens that have it, minus infinity for the rest. NaN counts as minus infinity.
TokenLogprob Logprob(std::span<const float> logits, int32_t token, int32_t top,
                     std::vector<TokenLogprob>* alternatives,
                     const kernels::KernelTable& table = kernels::Kernels(BestIsa()));

}  // namespace mach::decode
