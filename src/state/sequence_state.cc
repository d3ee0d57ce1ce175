#include "state/sequence_state.h"

#include <string>

#include "base/check.h"
#include "base/error.h"

namespace mach::state {

void SequenceState::Prepare(int64_t tokens, bool record) {
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

SequenceSnapshot SequenceState::Snapshot() {
  return {length_, recurrent_ ? recurrent_->Snapshot() : nullptr};
}

void SequenceState::Restore(const SequenceSnapshot& snapshot) {
  MACH_CHECK(snapshot.length_ <= length_);
  if (recurrent_) {
    recurrent_->Restore(*snapshot.recurrent_);
  }
  CutKv(snapshot.length_);
}

void SequenceState::CutKv(int64_t length) {
  kv_->Truncate(length);
  length_ = length;
  prepared_ = 0;
}

}  // namespace mach::state
