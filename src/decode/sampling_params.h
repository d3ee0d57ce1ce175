// What a request may ask of the sampler. Plain data.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

namespace mach::decode {

struct SamplingParams {
  float temperature = 1.0F;         // 0 = greedy
  int32_t top_k = 0;                // 0 = off
  float top_p = 1.0F;               // (0, 1]
  float min_p = 0.0F;               // [0, 1]
  float presence_penalty = 0.0F;    // of tokens generated so far
  float frequency_penalty = 0.0F;   // of tokens generated so far
  float repetition_penalty = 1.0F;  // > 0; of prompt and generated tokens, as transformers has it
  std::optional<int64_t> seed;      // absent: a fresh one for each request
  std::vector<std::pair<int32_t, float>> logit_bias;
};

}  // namespace mach::decode
