// Which token a sequence takes next: the sampler with what the request asks of it. Tokens are
// chosen from the model's logits row by row, and only what is accepted changes anything, so the
// rows of drafts that turn out wrong leave no trace. One per sequence; not thread-safe.
//
// A constraint comes first: what it does not allow is minus infinity before bias and penalties,
// which no bias brings back. Bans come after it, and give way where it allows nothing else.
// Logprobs see neither.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "decode/constraint.h"
#include "decode/logprob.h"
#include "decode/sampler.h"

namespace mach::decode {

struct ChooserOptions {
  SamplingParams sampling;
  int64_t seed = 0;                     // replaces sampling.seed
  std::vector<int32_t> banned;          // never chosen while fewer than `banned_until` are accepted
  int64_t banned_until = 0;             // tokens
  std::optional<int32_t> top_logprobs;  // logprobs are wanted: of the token and so many others
  std::shared_ptr<Constraint> constraint;  // this sequence's own, or none
};

struct ChosenToken {
  int32_t token = 0;
  float logprob = 0;              // under the model's own distribution; 0 unless asked for
  std::vector<TokenLogprob> top;  // likeliest first
};

class TokenChooser {
 public:
  // `prompt` is what the repetition penalty also looks at.
  TokenChooser(ChooserOptions options, std::span<const int32_t> prompt);

  // The token that follows the accepted ones, of the logits [vocab] there. The same each time it is
  // asked. Throws as Sampler::Sample does.
  ChosenToken Choose(std::span<const float> logits);
  void Accept(int32_t token);

  int64_t accepted() const { return accepted_; }

 private:
  const ChooserOptions options_;
  Sampler sampler_;
  std::vector<float> scratch_;
  TokenMask mask_;
  int64_t accepted_ = 0;
};

}  // namespace mach::decode
