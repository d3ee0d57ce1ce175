// One choice of one request while it is generated: sampling, stop conditions, and what may be
// shown. Not here: the forward pass and the queue. The inference thread's own.
#pragma once

#include <cstdint>
#include <deque>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "decode/sampler.h"
#include "decode/text_stream.h"
#include "engine/engine.h"

namespace mach::engine {

class Generation {
 public:
  // `end_tokens` are the model's own. All references outlive the object.
  Generation(const GenerationRequest& request, int32_t choice, int64_t seed,
             const text::Tokenizer& tokenizer, const std::vector<int32_t>& end_tokens);

  // Takes the next token from `logits` (scratch) and tells `sink` what became certain. Returns the
  // token to run through the model, or nothing if the choice is finished; OnFinish was called then.
  std::optional<int32_t> Step(std::span<float> logits, GenerationSink& sink);

 private:
  static constexpr uint64_t kOpen = std::numeric_limits<uint64_t>::max();

  // A generated token waiting for its text to be shown.
  struct Waiting {
    GeneratedToken token;
    uint64_t begin_byte;
    uint64_t end_byte;  // kOpen while the character that it begins is incomplete
  };

  Flow Emit(std::vector<decode::TextPiece> pieces, GenerationSink& sink);
  // All that was decoded up to here is whole characters.
  void CloseWaiting();
  // The stop string that `token` stands for; null if none.
  const std::string* StopStringOf(int32_t token) const;
  // `last` is shown after what is held back.
  void End(Finish finish, GenerationSink& sink, const std::string& last = "");

  const GenerationRequest& request_;
  const text::Tokenizer& tokenizer_;
  const std::vector<int32_t>& end_tokens_;
  int32_t choice_;
  decode::Sampler sampler_;
  decode::TextStream text_;
  std::vector<int32_t> banned_;   // until min_tokens
  std::vector<float> untouched_;  // logits before the sampler, kept for logprobs
  std::deque<Waiting> waiting_;
  int64_t tokens_ = 0;
};

}  // namespace mach::engine
