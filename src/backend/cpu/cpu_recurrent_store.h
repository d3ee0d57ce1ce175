// Recurrent state in memory: two copies of it, between which steps alternate, and the tape of the
// last recorded step. The inference thread's own.
//
// One copy is, for each layer, S of every v head, [k_dim, padded v_dim], and the last conv_kernel -
// 1 rows of the convolution's input, oldest first. Padding to 16 columns is zero.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "backend/cpu/cpu_context.h"
#include "backend/recurrent_store.h"
#include "tensor/memory.h"

namespace mach::backend {

// v_dim, padded to whole vectors.
int64_t PaddedVDim(const RecurrentShape& shape);

class CpuRecurrentStore final : public RecurrentStore {
 public:
  // What one gated-delta layer reads and writes during a step.
  struct LayerStep {
    const float* state = nullptr;  // [v_heads, k_dim, padded_v_dim]
    float* new_state = nullptr;
    const float* conv = nullptr;  // [conv_kernel - 1, channels]
    float* new_conv = nullptr;
    // The tape; null if the step is not recorded. `tokens` are those of the step.
    float* k = nullptr;      // [k_heads, tokens, k_dim], normalised
    float* delta = nullptr;  // [v_heads, tokens, padded_v_dim]
    float* decay = nullptr;  // [tokens, v_heads]
    float* rows = nullptr;   // [tokens, channels], before the convolution
  };

  // `context` must outlive the store.
  CpuRecurrentStore(CpuContext& context, const RecurrentShape& shape);

  const RecurrentShape& shape() const override { return shape_; }
  void Begin(int64_t tokens, bool record) override;
  void Commit() override;
  void Rollback(int64_t keep) override;
  bool CanRollback(int64_t keep) const override;
  void Reset() override;
  std::unique_ptr<RecurrentSnapshot> Snapshot() override;
  void Restore(const RecurrentSnapshot& snapshot) override;
  std::unique_ptr<RecurrentStore> Fork() override;
  uint64_t bytes() const override;

  int64_t padded_v_dim() const { return padded_v_dim_; }
  // Of the step under way.
  int64_t step_tokens() const { return step_.tokens; }
  LayerStep Layer(int32_t layer);

 private:
  struct Step {
    int64_t tokens = 0;
    bool recorded = false;
  };

  int64_t HeadFloats() const { return shape_.k_dim * padded_v_dim_; }
  int64_t StateFloats() const { return shape_.v_heads * HeadFloats(); }
  uint64_t CopyBytes() const;  // of one copy of the state
  Buffer& Current() { return copies_[static_cast<size_t>(current_)]; }
  // The parts of a layer in the copy that is current and in the other; the tape if `step` has one.
  LayerStep Parts(int32_t layer, int from, int to, const Step& step);
  void Replay(int64_t keep);

  CpuContext& context_;
  RecurrentShape shape_;
  int64_t padded_v_dim_ = 0;
  std::array<Buffer, 2> copies_;
  int current_ = 0;
  Buffer tape_;
  bool stepping_ = false;
  Step step_;                   // under way, or the last one
  bool can_roll_back_ = false;  // the other copy is the state before step_
};

}  // namespace mach::backend
