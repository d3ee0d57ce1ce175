// Weights of one linear layer in the order the kernels read them.
//
// A strip is 16 consecutive outputs, side by side, so that one vector register holds one input of
// all 16 and no kernel needs a horizontal sum. A strip is one contiguous stream:
//   affine: for each input group, ascending: the codes of 16 x group_size weights as bit planes,
//           then 16 scales, then 16 biases (in the checkpoint's own float type).
//   float:  for each input, ascending: 16 elements in the checkpoint's own float type.
// Outputs beyond out_features in the last strip are zero.
//
// The order of codes inside a plane, chosen so that VNNI, AMX, AVX2 and NEON all read it in place,
// is defined in packed_linear.cc. Immutable after packing; any thread may read.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "platform/thread_pool.h"
#include "tensor/memory.h"
#include "tensor/quant.h"
#include "tensor/view.h"

namespace mach::kernels {

inline constexpr int64_t kStripOutputs = 16;

class PackedLinear {
 public:
  // Empty: out_features() == 0.
  PackedLinear() = default;

  // `weight` is [out, in], F32, F16 or BF16. `bias` is [out] float or absent (empty view).
  static PackedLinear FromFloat(MemoryBudget& budget, std::string_view owner,
                                const TensorView& weight, const TensorView* bias, ThreadPool& pool);
  static PackedLinear FromAffine(MemoryBudget& budget, std::string_view owner,
                                 const AffineMatrixView& weight, const TensorView* bias,
                                 ThreadPool& pool);

  // Bytes that packing such a layer allocates, without reading any weight: what `mach check` adds
  // up.
  static uint64_t FloatBytes(int64_t out_features, int64_t in_features, DType dtype, bool bias);
  static uint64_t AffineBytes(int64_t out_features, int64_t in_features, AffineScheme scheme,
                              DType scale_dtype, bool bias);

  bool is_affine() const { return is_affine_; }
  const AffineScheme& scheme() const { return scheme_; }  // affine only
  DType dtype() const { return dtype_; }                  // of scales (affine) or elements (float)
  int64_t out_features() const { return out_features_; }
  int64_t in_features() const { return in_features_; }
  int64_t strips() const { return (out_features_ + kStripOutputs - 1) / kStripOutputs; }
  uint64_t strip_bytes() const { return strip_bytes_; }
  uint64_t bytes() const { return static_cast<uint64_t>(strips()) * strip_bytes_; }

  const std::byte* Strip(int64_t strip) const {
    return data_.data() + static_cast<uint64_t>(strip) * strip_bytes_;
  }
  // fp32, padded to whole strips; null if there is none.
  const float* bias() const {
    return bias_.empty() ? nullptr : reinterpret_cast<const float*>(bias_.data());
  }

  // Row `row` as fp32, for embeddings that share their weights with the output layer:
  // fma(scale, code, bias) for affine, the element itself for float.
  void UnpackRow(int64_t row, std::span<float> out) const;

 private:
  bool is_affine_ = false;
  AffineScheme scheme_;
  DType dtype_ = DType::kF32;
  int64_t out_features_ = 0;
  int64_t in_features_ = 0;
  uint64_t strip_bytes_ = 0;
  Buffer data_;
  Buffer bias_;
};

}  // namespace mach::kernels
