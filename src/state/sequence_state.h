// The live state of one sequence: what a model remembers of the tokens it has processed. Keys and
// values of its attention layers, and the recurrent state of its gated-delta layers if it has any.
//
// Length is the number of positions whose state is complete. A step is Prepare, a forward, Commit;
// a forward that throws never commits, and leaves the sequence as it was.
//
// Keys and values can be cut off anywhere, a recurrent state cannot: it has one value, that after
// the last token. What can be undone is therefore the last step alone, as a whole or, if the step
// was recorded, down to any of its tokens; further back leads a snapshot. The inference thread's
// own.
#pragma once

#include <cstdint>
#include <memory>

#include "backend/backend.h"

namespace mach::state {

// A position to return to. Holds a copy of the recurrent state, but no keys and values.
class SequenceSnapshot {
 public:
  int64_t length() const { return length_; }
  uint64_t bytes() const { return recurrent_ ? recurrent_->bytes() : 0; }

 private:
  friend class SequenceState;
  SequenceSnapshot(int64_t length, std::unique_ptr<backend::RecurrentSnapshot> recurrent)
      : length_(length), recurrent_(std::move(recurrent)) {}

  int64_t length_;
  std::unique_ptr<backend::RecurrentSnapshot> recurrent_;  // null: the model has no such state
};

class SequenceState {
 public:
  // `recurrent` is null for models without gated-delta layers.
  SequenceState(std::unique_ptr<backend::KvStore> kv,
                std::unique_ptr<backend::RecurrentStore> recurrent)
      : kv_(std::move(kv)), recurrent_(std::move(recurrent)) {}

  int64_t length() const { return length_; }
  backend::KvStore& kv() { return *kv_; }
  backend::RecurrentStore* recurrent() { return recurrent_.get(); }
  uint64_t bytes() const { return kv_->bytes() + (recurrent_ ? recurrent_->bytes() : 0); }

  // Makes room for a step of `tokens` more positions: whoever runs the step calls this for each of
  // its sequences, so that it knows which one ran out of memory. With `record`, Truncate can
  // afterwards cut into the step. Throws kResourceLimit at the memory ceiling; the sequence is then
  // as before. A step that was never committed is forgotten.
  void Prepare(int64_t tokens, bool record);
  // Tokens of the step that is prepared and not committed; 0 = none.
  int64_t prepared() const { return prepared_; }
  // The step's positions are complete.
  void Commit();

  // Forgets positions >= `length`, which is at most length(). Always possible to 0 and to length();
  // without recurrent state, to anything between; with it, to the length before the last step, and
  // into the last step if it was recorded, once and before another step is prepared. Otherwise
  // throws kUnsupported and changes nothing.
  void Truncate(int64_t length);
  bool CanTruncate(int64_t length) const;

  // The current position, to come back to by Restore, as often as wanted. Throws kResourceLimit.
  SequenceSnapshot Snapshot();
  // Back to a snapshot of this sequence. Its positions must not have been cut off since: a snapshot
  // outlives longer positions, not a Truncate or Restore to shorter ones (a MACH_CHECK where the
  // sequence is still shorter).
  void Restore(const SequenceSnapshot& snapshot);

 private:
  void CutKv(int64_t length);

  std::unique_ptr<backend::KvStore> kv_;
  std::unique_ptr<backend::RecurrentStore> recurrent_;
  int64_t length_ = 0;
  int64_t prepared_ = 0;
  int64_t step_begin_ = 0;  // length before the last committed step
};

}  // namespace mach::state
