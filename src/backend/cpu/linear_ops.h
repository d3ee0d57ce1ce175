// Linear layers on the CPU: quantises the activations, shares the outputs out among the threads,
// and runs several layers with the same input (query, key, value) as one. The arithmetic is in
// kernels/. Called by CpuBackend on the inference thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "backend/cpu/cpu_context.h"

namespace mach::backend {

// The rows of one matrix, quantised once for each group size that is asked for. Memory comes from
// the arena.
class QuantizedInput {
 public:
  QuantizedInput(CpuContext& context, const Tensor& x) : context_(context), x_(x) {}

  // Quantises if this group size is new. Not for use inside a parallel loop.
  void Prepare(int32_t group_size);
  // What Prepare made.
  const kernels::QuantizedRows& Get(int32_t group_size) const;
  bool empty() const { return quantized_.empty(); }

 private:
  CpuContext& context_;
  Tensor x_;
  std::vector<kernels::QuantizedRows> quantized_;
};

// Memory for `rows` quantised rows, contents undefined.
kernels::QuantizedRows NewQuantizedRows(Arena& arena, int64_t rows, int64_t cols,
                                        int32_t group_size);

// Rows [first, first + count) of `all`.
kernels::QuantizedRows RowsOf(const kernels::QuantizedRows& all, int64_t first, int64_t count);

// Scratch of the linear kernels, one piece for each thread of the pool.
class LinearScratch {
 public:
  // For calls with at most `rows` rows of at most `cols` inputs.
  LinearScratch(CpuContext& context, int64_t rows, int64_t cols);
  std::byte* Of(int worker) const {
    return data_ == nullptr ? nullptr : data_ + stride_bytes_ * static_cast<uint64_t>(worker);
  }

 private:
  uint64_t stride_bytes_ = 0;
  std::byte* data_ = nullptr;
};

// out[i] = weights[i] applied to x.
void LinearGroup(CpuContext& context, const Tensor& x, std::span<const LinearWeight* const> weights,
                 std::span<Tensor> out);

}  // namespace mach::backend
