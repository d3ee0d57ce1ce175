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
#include <utility>
#include <vector>

#include "backend/backend.h"

namespace mach::state {

// Which snapshots of a sequence are still good: those that no cut went below since they were taken.
// Each snapshot is a generation; of the cuts that a generation has seen only the deepest counts.
class CutLog {
 public:
  uint64_t NewGeneration() { return ++generation_; }
  void Cut(int64_t length);
  // Whether positions [0, length) are those that `generation` saw.
  bool Holds(uint64_t generation, int64_t length) const;

 private:
  struct Entry {
    uint64_t generation = 0;  // the newest that saw the cut
    int64_t length = 0;
  };
  uint64_t generation_ = 0;
  std::vector<Entry> cuts_;  // both fields strictly ascending
};

// A position to return to. Holds a copy of the recurrent state, but no keys and values.
class SequenceSnapshot {
 public:
  int64_t length() const { return length_; }
  uint64_t bytes() const { return recurrent_ ? recurrent_->bytes() : 0; }

 private:
  friend class SequenceState;
  SequenceSnapshot(int64_t length, std::shared_ptr<const CutLog> cuts, uint64_t generation,
                   std::unique_ptr<backend::RecurrentSnapshot> recurrent)
      : length_(length),
        cuts_(std::move(cuts)),
        generation_(generation),
        recurrent_(std::move(recurrent)) {}

  int64_t length_;
  std::shared_ptr<const CutLog> cuts_;  // of the sequence it was taken of
  uint64_t generation_;
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
  // Without what is shared with forks: what destroying the sequence would give back.
  uint64_t unshared_bytes() const {
    return kv_->unshared_bytes() + (recurrent_ ? recurrent_->bytes() : 0);
  }

  // Makes room for a step of `tokens` more positions: whoever runs the step calls this for each of
  // its sequences, so that it knows which one ran out of memory. With `record`, Truncate can
  // afterwards cut into the step. Throws kResourceLimit at the memory ceiling; all positions are
  // still valid then. A step that was never committed is forgotten.
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

  // Another sequence at this position, which goes on by itself. Shares the blocks of keys and
  // values that are full, copies the last one and the recurrent state. A step under way is not part
  // of it, and it can undo nothing that happened before. Throws kResourceLimit.
  std::unique_ptr<SequenceState> Fork();

  // The current position, to come back to by Restore, as often as wanted. Throws kResourceLimit.
  SequenceSnapshot Snapshot();
  // Back to a snapshot of this sequence (not of a fork). It outlives longer positions, but not a
  // Truncate or Restore to a shorter one, even if the sequence has grown again since: throws
  // kUnsupported then and changes nothing.
  void Restore(const SequenceSnapshot& snapshot);
  bool CanRestore(const SequenceSnapshot& snapshot) const;

 private:
  void CutKv(int64_t length);

  std::unique_ptr<backend::KvStore> kv_;
  std::unique_ptr<backend::RecurrentStore> recurrent_;
  std::shared_ptr<CutLog> cuts_ = std::make_shared<CutLog>();
  int64_t length_ = 0;
  int64_t prepared_ = 0;
  int64_t step_begin_ = 0;  // length before the last committed step
};

}  // namespace mach::state
