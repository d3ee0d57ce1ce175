// Round-to-nearest affine quantisation, as MLX does it: same codes, scales and biases bit for bit
// as mx.quantize on a CPU. Also the bit packing that goes with it. Stateless; any thread.
// Source: MLX, `quantize` (mlx/backend/cpu/quantized.cpp).
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "tensor/dtype.h"
#include "tensor/quant.h"

namespace mach::convert {

// Routers are small but sensitive, so mlx-lm always quantises them to 8 bits in groups of 64.
inline constexpr AffineScheme kRouterScheme = {8, 64};

// Appends codes to a little-endian bit stream: out[0 .. codes.size() * bits / 8). codes.size() must
// be a multiple of 32.
void PackCodes(std::span<const uint8_t> codes, int bits, std::span<std::byte> out);

// Quantises consecutive groups of scheme.group_size weights. codes: one byte for each weight;
// scales and biases: one fp32 for each group, not yet rounded to the type they will be stored in.
// Weights must be finite.
void QuantiseAffine(std::span<const float> weights, const AffineScheme& scheme,
                    std::span<uint8_t> codes, std::span<float> scales, std::span<float> biases);

// How the weights of a linear layer become codes: the seam for methods that know more than the
// weights, such as statistics of the layer's inputs, which they look up by `module`. Called from
// several threads.
class WeightQuantiser {
 public:
  virtual ~WeightQuantiser() = default;
  // As QuantiseAffine, for one row of the layer.
  virtual void QuantiseRow(std::string_view module, int64_t row, std::span<const float> weights,
                           const AffineScheme& scheme, std::span<uint8_t> codes,
                           std::span<float> scales, std::span<float> biases) const = 0;
};

// QuantiseAffine, whatever the layer.
const WeightQuantiser& RoundToNearest();

// Stores fp32 values as `dtype` (F32, F16, BF16), rounding to nearest even. out must hold them.
void StoreFloats(std::span<const float> values, DType dtype, std::span<std::byte> out);

}  // namespace mach::convert
