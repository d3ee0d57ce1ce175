#include "state/sequence_state.h"

#include <algorithm>
#include <string>

#include "base/check.h"
#include "base/error.h"

namespace mach::state {

void CutLog::Cut(int64_t length) {
  while (!cuts_.empty() && cuts_.back().length >= length) {
    cuts_.pop_back();
  }
  // Else this generation has seen a deeper cut.
  if (cuts_.empty() || cuts_.back().generation < generation_) {
    cuts_.push_back({generation_, length});
  }
}

bool CutLog::Holds(uint64_t generation, int64_t length) const {
  const auto deepest = std::ranges::lower_bound(cuts_, generation, {}, &Entry::generation);
  return deepest == cuts_.end() || deepest->length >= length;
}

void SequenceState::Prepare(int64_t tokens, bool record) {
  MACH_CHECK(tokens > 0);
  prepared_ = 0;
  kv_->Reserve(length_, length_ + tokens);
  if (recurrent_) {
    recurrent_->Begin(tokens, record);
  }
  prepared_ = tokens;
}

void SequenceState::Commit() {
  MACH_CHECK(prepared_ > 0);
  if (recurrent_) {
    recurrent_->Commit();
  }
  step_begin_ = length_;
  length_ += prepared_;
  prepared_ = 0;
}

bool SequenceState::CanTruncate(int64_t length) const {
  if (length < 0 || length > length_) {
    return false;
  }
  return !recurrent_ || length == 0 || length == length_ ||
         (length >= step_begin_ && recurrent_->CanRollback(length - step_begin_));
}

void SequenceState::Truncate(int64_t length) {
  MACH_CHECK(length >= 0 && length <= length_);
  if (!CanTruncate(length)) {
    throw Error(ErrorCode::kUnsupported,
                "a sequence of " + std::to_string(length_) + " tokens cannot be cut back to " +
                    std::to_string(length) +
                    ": the model's recurrent state can only undo its last step (from " +
                    std::to_string(step_begin_) + ")",
                "record the step, or take a snapshot before it");
  }
  if (recurrent_ && length == 0) {
    recurrent_->Reset();
  } else if (recurrent_ && length < length_) {
    recurrent_->Rollback(length - step_begin_);
  }
  CutKv(length);
}

std::unique_ptr<SequenceState> SequenceState::Fork() {
  auto fork = std::make_unique<SequenceState>(kv_->Fork(length_),
                                              recurrent_ ? recurrent_->Fork() : nullptr);
  fork->length_ = length_;
  fork->step_begin_ = length_;
  return fork;
}

SequenceSnapshot SequenceState::Snapshot() {
  auto recurrent = recurrent_ ? recurrent_->Snapshot() : nullptr;
  return {length_, cuts_, cuts_->NewGeneration(), std::move(recurrent)};
}

bool SequenceState::CanRestore(const SequenceSnapshot& snapshot) const {
  return snapshot.cuts_ == cuts_ && cuts_->Holds(snapshot.generation_, snapshot.length_);
}

void SequenceState::Restore(const SequenceSnapshot& snapshot) {
  if (!CanRestore(snapshot)) {
    throw Error(ErrorCode::kUnsupported,
                "a sequence of " + std::to_string(length_) +
                    " tokens cannot return to its snapshot at " + std::to_string(snapshot.length_) +
                    (snapshot.cuts_ == cuts_ ? ": it has been shorter since"
                                             : ": the snapshot is of another sequence"),
                "take a snapshot after the cut, or fork the sequence before it");
  }
  if (recurrent_) {
    recurrent_->Restore(*snapshot.recurrent_);
  }
  CutKv(snapshot.length_);
}

void SequenceState::CutKv(int64_t length) {
  kv_->Truncate(length);
  if (length < length_) {
    cuts_->Cut(length);
  }
  length_ = length;
  prepared_ = 0;
}

}  // namespace mach::state
