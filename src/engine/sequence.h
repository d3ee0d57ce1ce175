// One choice of a request while it is generated: its state in the model, how its tokens are chosen,
// when it ends, and what may be shown of it. Not here: the forward pass and the queue. The
// inference thread's own.
#pragma once

#include <cstdint>
#include <deque>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "decode/drafter.h"
#include "decode/text_stream.h"
#include "decode/token_chooser.h"
#include "engine/engine.h"
#include "state/sequence_state.h"

namespace mach::engine {

class Sequence {
 public:
  // `state` holds the prompt; `end_tokens` are the model's own; `drafter` may be null. All
  // references outlive the object, which tells `sink` what becomes certain.
  Sequence(const GenerationRequest& request, int32_t choice, int64_t seed,
           std::unique_ptr<state::SequenceState> state, std::unique_ptr<decode::Drafter> drafter,
           const text::Tokenizer& tokenizer, const std::vector<int32_t>& end_tokens,
           GenerationSink& sink);

  state::SequenceState& state() { return *state_; }
  std::unique_ptr<state::SequenceState> TakeState() { return std::move(state_); }
  bool ended() const { return ended_; }
  int64_t tokens() const { return chooser_.accepted(); }

  // Puts drafts behind the last token, at most so many, of a vocabulary of that size.
  void Draft(int64_t most_drafts, int32_t vocab_size);
  // The rows of the next step: the last token, which the state does not hold yet, and the drafts.
  std::span<const int32_t> rows() const { return rows_; }

  // Chooses from the logits of these rows [rows, vocab] as single steps would: row after row, until
  // a choice is not the next draft. Keeps of the step what was chosen. If ended() is true then,
  // OnFinish has been called. At first the row is the prompt's last.
  void Verify(std::span<const float> logits);

 private:
  static constexpr uint64_t kOpen = std::numeric_limits<uint64_t>::max();

  // A generated token waiting for its text to be shown.
  struct Waiting {
    GeneratedToken token;
    uint64_t begin_byte;
    uint64_t end_byte;  // kOpen while the character that it begins is incomplete
  };

  // The sequence goes on with this token, or ends with it.
  void Take(const decode::ChosenToken& chosen);
  void WaitForText(const decode::ChosenToken& chosen, uint64_t begin_byte);
  // All that was decoded up to here is whole characters.
  void CloseWaiting();
  // The stop string that `token` stands for; null if none.
  const std::string* StopStringOf(int32_t token) const;
  Flow Emit(std::vector<decode::TextPiece> pieces);
  // Shows what is held back, and `last` after it.
  void End(Finish finish, const std::string& last = "");
  void Finished(Finish finish);

  const GenerationRequest& request_;
  const text::Tokenizer& tokenizer_;
  const std::vector<int32_t>& end_tokens_;
  GenerationSink& sink_;
  const int32_t choice_;
  std::unique_ptr<state::SequenceState> state_;
  std::unique_ptr<decode::Drafter> drafter_;
  decode::TokenChooser chooser_;
  decode::TextStream text_;
  std::vector<int32_t> rows_;
  std::deque<Waiting> waiting_;
  bool ended_ = false;
};

}  // namespace mach::engine
