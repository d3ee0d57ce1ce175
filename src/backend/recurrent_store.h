// The recurrent state of one sequence, all its gated-delta layers: the matrix S of every head and
// the last rows that the causal convolution saw.
//
// A step does not overwrite the state it starts from: it writes beside it, and Commit makes the new
// one current. So a step that fails or is cancelled leaves the sequence as it was, and a step that
// recorded its inputs can be cut back to any of its tokens, bit for bit, without running the model.
//
// Not thread-safe: the inference thread's own.
#pragma once

#include <cstdint>
#include <memory>

namespace mach::backend {

struct RecurrentShape {
  int32_t layers = 0;  // gated-delta layers only
  int32_t k_heads = 0;
  int32_t v_heads = 0;  // a multiple of k_heads; v head j reads k head j / (v_heads / k_heads)
  int32_t k_dim = 0;
  int32_t v_dim = 0;
  int32_t conv_kernel = 0;  // taps; the state keeps conv_kernel - 1 rows

  int64_t conv_channels() const { return 2LL * k_heads * k_dim + 1LL * v_heads * v_dim; }
};

// A copy of the state at one position. Immutable; booked like the state it was taken from.
class RecurrentSnapshot {
 public:
  virtual ~RecurrentSnapshot() = default;
  virtual uint64_t bytes() const = 0;
};

class RecurrentStore {
 public:
  virtual ~RecurrentStore() = default;
  virtual const RecurrentShape& shape() const = 0;

  // Before a step of `tokens`. With `record`, the step keeps what Rollback needs. Throws
  // kResourceLimit at the memory ceiling.
  virtual void Begin(int64_t tokens, bool record) = 0;
  // The step's result becomes the state.
  virtual void Commit() = 0;

  // Undoes all but the first `keep` tokens of the last committed step: 0 <= keep <= its tokens,
  // equal bit for bit to a step of `keep` tokens. Needs that step to have been begun with `record`,
  // unless keep is 0 (the state before it) or all of them. Once for each step.
  virtual void Rollback(int64_t keep) = 0;
  // Whether Rollback(keep) is possible now.
  virtual bool CanRollback(int64_t keep) const = 0;

  virtual void Reset() = 0;  // as new: all zero
  virtual std::unique_ptr<RecurrentSnapshot> Snapshot() = 0;
  virtual void Restore(const RecurrentSnapshot& snapshot) = 0;
  // Another store with this state, and no step to roll back. Throws kResourceLimit.
  virtual std::unique_ptr<RecurrentStore> Fork() = 0;
  virtual uint64_t bytes() const = 0;
};

}  // namespace mach::backend
