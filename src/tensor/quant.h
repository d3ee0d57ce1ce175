// Group-affine quantisation as MLX stores it: w = scale * code + bias, one scale and one bias for
// each group of consecutive inputs of an output row. Scales may be negative.
// Source: MLX `quantize`; packing rule in formats below: a row is a little-endian bit stream, code
// i occupies bits [i*bits, (i+1)*bits), least significant first, for every width.
#pragma once

#include <cstdint>
#include <span>

#include "tensor/view.h"

namespace mach {

// bits: 2, 3, 4, 5, 6 or 8. group_size: 32, 64 or 128.
struct AffineScheme {
  int bits = 4;
  int group_size = 64;

  friend bool operator==(const AffineScheme&, const AffineScheme&) = default;
};

bool IsSupported(const AffineScheme& scheme);

// A quantised matrix as it lies in a file. Views are borrowed.
struct AffineMatrixView {
  AffineScheme scheme;
  int64_t out_features = 0;
  int64_t in_features = 0;  // a multiple of scheme.group_size
  TensorView codes;         // U32 [out, in * bits / 32]
  TensorView scales;        // F32, F16 or BF16 [out, in / group_size]
  TensorView biases;        // same dtype and shape as scales
};

// Unpacks the codes of one row: out[i] for i in [0, in_features).
void UnpackAffineRow(const AffineMatrixView& matrix, int64_t row, std::span<uint8_t> out);

// Element i of a float tensor (F32, F16, BF16), read without alignment assumptions.
float FloatElement(const TensorView& tensor, int64_t index);

// The reference meaning of a row: fp32, scale * code + bias rounded once by fma.
void DequantizeAffineRow(const AffineMatrixView& matrix, int64_t row, std::span<float> out);

}  // namespace mach
