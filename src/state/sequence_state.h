// The live state of one sequence: what a model remembers of the tokens it has processed.
//
// Today that is keys and values; recurrent states join here. Length is the number of positions
// whose state is complete: a forward writes beyond it and Commit moves it, so a forward that throws
// or is rejected leaves the sequence as it was. The inference thread's own.
#pragma once

#include <cstdint>
#include <memory>

#include "backend/backend.h"

namespace mach::state {

class SequenceState {
 public:
  explicit SequenceState(std::unique_ptr<backend::KvStore> kv) : kv_(std::move(kv)) {}

  int64_t length() const { return length_; }
  backend::KvStore& kv() { return *kv_; }
  uint64_t bytes() const { return kv_->bytes(); }

  // Room for `tokens` more positions. Throws kResourceLimit at the memory ceiling.
  void Prepare(int64_t tokens) { kv_->Reserve(length_ + tokens); }
  void Commit(int64_t tokens) { length_ += tokens; }

  // Forgets positions >= `length`.
  void Truncate(int64_t length);

 private:
  std::unique_ptr<backend::KvStore> kv_;
  int64_t length_ = 0;
};

}  // namespace mach::state
