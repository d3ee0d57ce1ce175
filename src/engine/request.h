// One request inside the engine, from submission to its last event: what was asked, who hears of
// it, what it has cost, and its sequences. Its prompt is prefilled once; each choice is a sequence
// that is forked from there.
//
// `cancelled` is any thread's. The rest belongs to the inference thread once the request has left
// the mailbox's queue, and until then to the mailbox.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "engine/engine.h"
#include "engine/sequence.h"
#include "state/sequence_state.h"

namespace mach::engine {

struct Request {
  Request(GenerationRequest what, std::shared_ptr<GenerationSink> who);

  // Tokens that have not been prefilled.
  int64_t prompt_left() const { return prompt ? usage.prompt_tokens - prompt->length() : 0; }
  int32_t sequences_left() const { return asked.choices - begun; }
  bool done() const { return sequences_left() == 0 && sequences.empty(); }

  // Enters the tokens that its sequences have taken into `usage`; returns how many are new.
  int64_t CountTokens();
  // Takes out the sequences that have ended, whose tokens were counted, and returns their states.
  std::vector<std::unique_ptr<state::SequenceState>> TakeEnded();

  // Begins the next choice on a fork of the prompt, the last one on the prompt itself. Throws
  // kResourceLimit.
  Sequence& BeginSequence(const text::Tokenizer& tokenizer, const std::vector<int32_t>& end_tokens,
                          std::unique_ptr<decode::Drafter> drafter);

  // Its last event, or what the sink threw at it: the request has failed then.
  std::optional<Error> SendDone();
  // Its last events otherwise. What the sink throws is logged.
  void SendError(const Error& error);

  const GenerationRequest asked;
  const std::shared_ptr<GenerationSink> sink;
  const double submitted_s = NowSeconds();
  std::atomic<bool> cancelled{false};

  Usage usage;
  double prefill_begin_s = 0;                    // NowSeconds(), as is the next
  double prefill_end_s = 0;                      // as far as it has come
  double prefill_work_s = 0;                     // between them, on this prompt alone; 0 = none yet
  std::unique_ptr<state::SequenceState> prompt;  // from admission until the last choice has it
  std::vector<float> prompt_logits;              // after its last token
  int32_t begun = 0;                             // choices
  std::vector<std::unique_ptr<Sequence>> sequences;  // that have begun and not ended

 private:
  const int64_t seed_;        // of the first choice
  int64_t ended_tokens_ = 0;  // of sequences that were taken out
};

}  // namespace mach::engine
