// Weights of one linear layer in the order the kernels read them.
//
// A strip is 16 consecutive outputs, side by side, so that one vector register holds one input of
// all 16 and no kernel needs a horizontal sum. A strip is one contiguous stream:
//   affine: for each input group, ascending: the codes of 16 x group_size weights as bit planes
//           (packed_layout.h), then 16 scales, then 16 biases (in the checkpoint's own float type).
//   float:  for each input, ascending: 16 elements in the checkpoint's own float type.
// Outputs beyond out_features in the last strip are zero. The order is the same for every
// instruction set, so packed weights may lie in a file: the records of an expert sidecar
// (formats/expert_sidecar.h) are packed layers.
//
// PackedSpec says what is packed, PackedView where it lies, PackedLinear owns it. Immutable after
// packing; any thread may read.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "platform/thread_pool.h"
#include "tensor/memory.h"
#include "tensor/quant.h"
#include "tensor/view.h"

namespace mach {

inline constexpr int64_t kStripOutputs = 16;

// The shape and encoding of a packed layer; its size follows from them.
struct PackedSpec {
  bool is_affine = false;
  AffineScheme scheme;        // affine only
  DType dtype = DType::kF32;  // F32, F16 or BF16: of scales and biases (affine) or elements
  int64_t out_features = 0;
  int64_t in_features = 0;

  static PackedSpec Affine(int64_t out_features, int64_t in_features, AffineScheme scheme,
                           DType scale_dtype);
  static PackedSpec Float(int64_t out_features, int64_t in_features, DType dtype);

  int64_t strips() const { return (out_features + kStripOutputs - 1) / kStripOutputs; }
  uint64_t strip_bytes() const;  // a multiple of 32; of 64 if affine
  uint64_t bytes() const { return static_cast<uint64_t>(strips()) * strip_bytes(); }

  friend bool operator==(const PackedSpec&, const PackedSpec&) = default;
};

// A packed layer that lies somewhere: what the kernels take. Borrows.
struct PackedView {
  PackedSpec spec;
  uint64_t strip_bytes = 0;         // spec.strip_bytes(), computed once
  const std::byte* data = nullptr;  // spec.bytes(), aligned to 64
  const float* bias = nullptr;      // fp32, padded to whole strips; null if there is none

  PackedView() = default;
  PackedView(const PackedSpec& packed_spec, const std::byte* at, const float* layer_bias = nullptr)
      : spec(packed_spec), strip_bytes(packed_spec.strip_bytes()), data(at), bias(layer_bias) {}

  const std::byte* Strip(int64_t strip) const {
    return data + static_cast<uint64_t>(strip) * strip_bytes;
  }

  // Row `row` as fp32, for embeddings that share their weights with the output layer:
  // fma(scale, code, bias) for affine, the element itself for float.
  void UnpackRow(int64_t row, std::span<float> out) const;
};

// Packs a layer into `out`, which holds the spec's bytes and is zero. `what` names the layer in
// errors: kUnsupported for types and schemes that cannot be packed, kInvalidArgument for bytes that
// do not fit the shape. Returns what was packed. Work is shared among the pool's threads.
PackedSpec PackFloat(const TensorView& weight, std::string_view what, std::span<std::byte> out,
                     ThreadPool& pool);
PackedSpec PackAffine(const AffineMatrixView& weight, std::string_view what,
                      std::span<std::byte> out, ThreadPool& pool);

// What PackFloat and PackAffine would return, with the same errors; touches no weight.
PackedSpec CheckFloat(const TensorView& weight, std::string_view what);
PackedSpec CheckAffine(const AffineMatrixView& weight, std::string_view what);

class PackedLinear {
 public:
  // Empty: out_features() == 0.
  PackedLinear() = default;

  // `weight` is [out, in], F32, F16 or BF16. `bias` is [out] float or absent (empty view). `owner`
  // is the account that the memory is booked on.
  static PackedLinear FromFloat(MemoryBudget& budget, std::string_view owner,
                                const TensorView& weight, const TensorView* bias, ThreadPool& pool);
  static PackedLinear FromAffine(MemoryBudget& budget, std::string_view owner,
                                 const AffineMatrixView& weight, const TensorView* bias,
                                 ThreadPool& pool);

  const PackedSpec& spec() const { return view_.spec; }
  int64_t out_features() const { return view_.spec.out_features; }
  int64_t in_features() const { return view_.spec.in_features; }
  uint64_t bytes() const { return view_.spec.bytes(); }
  const PackedView& view() const { return view_; }

 private:
  template <typename Pack>
  static PackedLinear Make(MemoryBudget& budget, std::string_view owner, const PackedSpec& spec,
                           const TensorView* bias, ThreadPool& pool, const Pack& pack);
  static Buffer PackBias(MemoryBudget& budget, std::string_view owner, int64_t out_features,
                         const TensorView* bias, ThreadPool& pool);

  PackedView view_;
  Buffer data_;
  Buffer bias_;
};

}  // namespace mach
