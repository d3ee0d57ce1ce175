#include "engine/prefill_chunk.h"

#include <algorithm>
#include <span>
#include <utility>

#include "engine/expert_use.h"

namespace mach::engine {

PrefillChunk::PrefillChunk(models::Model& model, std::shared_ptr<Request> request,
                           int64_t most_tokens)
    : request_(std::move(request)),
      model_(model),
      tokens_(std::min(most_tokens, request_->prompt_left())),
      last_(tokens_ == request_->prompt_left()),
      scope_(model.backend()) {
  state::SequenceState& prompt = *request_->prompt;
  prompt.Prepare(tokens_, /*record=*/false);
  const models::SequenceRows rows{
      .state = &prompt,
      .tokens = std::span(request_->asked.prompt_tokens)
                    .subspan(static_cast<size_t>(prompt.length()), static_cast<size_t>(tokens_)),
      .logit_rows = last_ ? 1 : 0};
  const int64_t next = std::min(most_tokens, request_->prompt_left() - tokens_);
  step_ = model.Begin({.batch = std::span(&rows, 1),
                       .use = ExpertUseOfChunk(tokens_, next),
                       .cancel = &request_->cancelled});
}

bool PrefillChunk::Run(int32_t layers) {
  for (int32_t i = 0; i < layers; ++i) {
    if (!step_->RunLayer()) {
      const backend::Tensor logits = step_->Finish();
      if (last_) {
        const std::span<const float> values = model_.backend().Read(logits);
        request_->prompt_logits.assign(values.begin(), values.end());
      }
      return true;
    }
    ++layers_run_;
  }
  return false;
}

}  // namespace mach::engine
