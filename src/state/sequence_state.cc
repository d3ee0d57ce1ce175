#include "state/sequence_state.h"

#include "base/check.h"

namespace mach::state {

void SequenceState::Truncate(int64_t length) {
  MACH_CHECK(length >= 0 && length <= length_);
  kv_->Truncate(length);
  length_ = length;
}

}  // namespace mach::state
