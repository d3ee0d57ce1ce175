#include "decode/token_chooser.h"

#include <utility>

namespace mach::decode {

TokenChooser::TokenChooser(ChooserOptions options, std::span<const int32_t> prompt)
    : options_(std::move(options)), sampler_(options_.sampling, options_.seed, prompt) {}

ChosenToken TokenChooser::Choose(std::span<const float> logits) {
  scratch_.assign(logits.begin(), logits.end());
  bool banned = accepted_ < options_.banned_until;
  if (options_.constraint && options_.constraint->FillMask(mask_)) {
    ApplyMask(mask_, scratch_);
    banned = banned && AllowsOther(mask_, options_.banned);
  }
  ChosenToken chosen;
  chosen.token = sampler_.Sample(
      scratch_, accepted_,
      banned ? std::span<const int32_t>(options_.banned) : std::span<const int32_t>());
  if (options_.top_logprobs) {
    chosen.logprob = Logprob(logits, chosen.token, *options_.top_logprobs, &chosen.top).logprob;
  }
  return chosen;
}

void TokenChooser::Accept(int32_t token) {
  sampler_.Accept(token);
  if (options_.constraint) {
    options_.constraint->Accept(token);
  }
  ++accepted_;
}

}  // namespace mach::decode
