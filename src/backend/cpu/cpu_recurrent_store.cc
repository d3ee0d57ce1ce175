#include "backend/cpu/cpu_recurrent_store.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace mach::backend {
namespace {

constexpr const char* kOwner = "recurrent";

class CpuSnapshot final : public RecurrentSnapshot {
 public:
  explicit CpuSnapshot(Buffer copy) : copy_(std::move(copy)) {}
  uint64_t bytes() const override { return copy_.size_bytes(); }
  const Buffer& copy() const { return copy_; }

 private:
  Buffer copy_;
};

int64_t LayerFloats(const RecurrentShape& shape) {
  // Whole lines, so that every layer's state is aligned.
  const int64_t conv = ((shape.conv_kernel - 1) * shape.conv_channels() + 15) / 16 * 16;
  return shape.v_heads * shape.k_dim * PaddedVDim(shape) + conv;
}

// Of one layer and one token.
int64_t TapeFloats(const RecurrentShape& shape) {
  return static_cast<int64_t>(shape.k_heads) * shape.k_dim + shape.v_heads * PaddedVDim(shape) +
         shape.v_heads + shape.conv_channels();
}

}  // namespace

int64_t PaddedVDim(const RecurrentShape& shape) {
  return (shape.v_dim + 15) / 16 * 16;
}

CpuRecurrentStore::CpuRecurrentStore(CpuContext& context, const RecurrentShape& shape)
    : context_(context), shape_(shape), padded_v_dim_(PaddedVDim(shape)) {
  MACH_CHECK(shape.k_heads > 0 && shape.v_heads % shape.k_heads == 0 && shape.conv_kernel > 0);
  for (Buffer& copy : copies_) {
    copy = Buffer(context.budget, kOwner, CopyBytes());
  }
}

void CpuRecurrentStore::Begin(int64_t tokens, bool record) {
  MACH_CHECK(tokens > 0);
  const int64_t tape_floats = record ? tokens * shape_.layers * TapeFloats(shape_) : 0;
  const uint64_t tape_bytes = static_cast<uint64_t>(tape_floats) * sizeof(float);
  if (tape_.size_bytes() < tape_bytes) {
    step_.recorded = false;  // even if what follows throws
    tape_ = Buffer();
    tape_ = Buffer(context_.budget, kOwner, tape_bytes);
  }
  can_roll_back_ = false;
  stepping_ = true;
  step_ = {.tokens = tokens, .recorded = record};
}

void CpuRecurrentStore::Commit() {
  MACH_CHECK(stepping_);
  stepping_ = false;
  current_ = 1 - current_;
  can_roll_back_ = true;
}

bool CpuRecurrentStore::CanRollback(int64_t keep) const {
  return can_roll_back_ && 0 <= keep && keep <= step_.tokens &&
         (step_.recorded || keep == 0 || keep == step_.tokens);
}

void CpuRecurrentStore::Rollback(int64_t keep) {
  MACH_CHECK(CanRollback(keep));
  can_roll_back_ = false;
  if (keep == step_.tokens) {
    return;
  }
  if (keep == 0) {
    current_ = 1 - current_;
    return;
  }
  Replay(keep);
}

void CpuRecurrentStore::Replay(int64_t keep) {
  const int64_t group = shape_.v_heads / shape_.k_heads;
  const int64_t history = shape_.conv_kernel - 1;
  const int64_t channels = shape_.conv_channels();
  for (int32_t layer = 0; layer < shape_.layers; ++layer) {
    const LayerStep parts = Parts(layer, 1 - current_, current_, step_);
    context_.pool.ParallelFor(shape_.v_heads, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t head = begin; head < end; ++head) {
        context_.table.delta_replay({.tokens = keep,
                                     .k_dim = shape_.k_dim,
                                     .v_dim = padded_v_dim_,
                                     .k = parts.k + head / group * step_.tokens * shape_.k_dim,
                                     .delta = parts.delta + head * step_.tokens * padded_v_dim_,
                                     .decay = parts.decay + head,
                                     .gate_stride = shape_.v_heads,
                                     .state = parts.state + head * HeadFloats(),
                                     .new_state = parts.new_state + head * HeadFloats()});
      }
    });
    context_.ForRows(history, channels, [&](int64_t row) {
      // Row keep - history + row of the step; before its first, a row of the old state.
      const int64_t from = keep - history + row;
      const float* source =
          from < 0 ? parts.conv + (history + from) * channels : parts.rows + from * channels;
      std::copy_n(source, channels, parts.new_conv + row * channels);
    });
  }
}

void CpuRecurrentStore::Reset() {
  stepping_ = false;
  can_roll_back_ = false;
  Current().Clear();
}

std::unique_ptr<RecurrentSnapshot> CpuRecurrentStore::Snapshot() {
  Buffer copy(context_.budget, kOwner, CopyBytes());
  copy.CopyFrom(Current());
  return std::make_unique<CpuSnapshot>(std::move(copy));
}

void CpuRecurrentStore::Restore(const RecurrentSnapshot& snapshot) {
  const Buffer& copy = static_cast<const CpuSnapshot&>(snapshot).copy();
  stepping_ = false;
  can_roll_back_ = false;
  Current().CopyFrom(copy);
}

std::unique_ptr<RecurrentStore> CpuRecurrentStore::Fork() {
  auto fork = std::make_unique<CpuRecurrentStore>(context_, shape_);
  fork->Current().CopyFrom(Current());
  return fork;
}

uint64_t CpuRecurrentStore::CopyBytes() const {
  return static_cast<uint64_t>(shape_.layers * LayerFloats(shape_)) * sizeof(float);
}

uint64_t CpuRecurrentStore::bytes() const {
  return 2 * CopyBytes() + tape_.size_bytes();
}

CpuRecurrentStore::LayerStep CpuRecurrentStore::Layer(int32_t layer) {
  MACH_CHECK(stepping_ && layer >= 0 && layer < shape_.layers);
  return Parts(layer, current_, 1 - current_, step_);
}

CpuRecurrentStore::LayerStep CpuRecurrentStore::Parts(int32_t layer, int from, int to,
                                                      const Step& step) {
  LayerStep parts;
  const int64_t at = layer * LayerFloats(shape_);
  parts.state = copies_[static_cast<size_t>(from)].As<float>().data() + at;
  parts.new_state = copies_[static_cast<size_t>(to)].As<float>().data() + at;
  parts.conv = parts.state + StateFloats();
  parts.new_conv = parts.new_state + StateFloats();
  if (step.recorded) {
    parts.k = tape_.As<float>().data() + layer * step.tokens * TapeFloats(shape_);
    parts.delta = parts.k + step.tokens * shape_.k_heads * shape_.k_dim;
    parts.decay = parts.delta + step.tokens * shape_.v_heads * padded_v_dim_;
    parts.rows = parts.decay + step.tokens * shape_.v_heads;
  }
  return parts;
}

}  // namespace mach::backend
