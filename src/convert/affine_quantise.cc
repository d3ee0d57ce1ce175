#include "convert/affine_quantise.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "tensor/half.h"

namespace mach::convert {

void PackCodes(std::span<const uint8_t> codes, int bits, std::span<std::byte> out) {
  MACH_CHECK(codes.size() % 32 == 0 && out.size() == codes.size() * static_cast<size_t>(bits) / 8);
  uint32_t window = 0;
  int filled = 0;
  size_t at = 0;
  for (const uint8_t code : codes) {
    window |= static_cast<uint32_t>(code) << filled;
    filled += bits;
    while (filled >= 8) {
      out[at++] = static_cast<std::byte>(window & 0xffU);
      window >>= 8;
      filled -= 8;
    }
  }
}

void QuantiseAffine(std::span<const float> weights, const AffineScheme& scheme,
                    std::span<uint8_t> codes, std::span<float> scales, std::span<float> biases) {
  const auto group_size = static_cast<size_t>(scheme.group_size);
  const size_t groups = weights.size() / group_size;
  MACH_CHECK(weights.size() % group_size == 0 && codes.size() == weights.size() &&
             scales.size() == groups && biases.size() == groups);
  const auto top_code = static_cast<float>((1 << scheme.bits) - 1);
  constexpr float kSmallestScale = 1e-7F;
  for (size_t group = 0; group < groups; ++group) {
    const float* w = weights.data() + group * group_size;
    const auto [low, high] = std::minmax_element(w, w + group_size);
    const float w_min = *low;
    const float w_max = *high;
    // Zero gets a code of its own: the edge further from zero is hit exactly, and the scale is
    // adjusted so that it is a whole number of steps away.
    const bool low_edge = std::fabs(w_min) > std::fabs(w_max);
    float scale = std::max((w_max - w_min) / top_code, kSmallestScale);
    scale = low_edge ? scale : -scale;
    const float edge = low_edge ? w_min : w_max;
    const float steps = std::rint(edge / scale);
    float bias = 0;
    if (steps != 0) {
      scale = edge / steps;
      bias = edge;
    }
    for (size_t i = 0; i < group_size; ++i) {
      const float code = std::rint((w[i] - bias) / scale);
      codes[group * group_size + i] = static_cast<uint8_t>(std::clamp(code, 0.0F, top_code));
    }
    scales[group] = scale;
    biases[group] = bias;
  }
}

const WeightQuantiser& RoundToNearest() {
  class Rounding final : public WeightQuantiser {
    void QuantiseRow(std::string_view /*module*/, int64_t /*row*/, std::span<const float> weights,
                     const AffineScheme& scheme, std::span<uint8_t> codes, std::span<float> scales,
                     std::span<float> biases) const override {
      QuantiseAffine(weights, scheme, codes, scales, biases);
    }
  };
  static const Rounding kRounding;
  return kRounding;
}

void StoreFloats(std::span<const float> values, DType dtype, std::span<std::byte> out) {
  MACH_CHECK(out.size() == values.size() * DTypeBytes(dtype));
  if (dtype == DType::kF32) {
    std::memcpy(out.data(), values.data(), out.size());
    return;
  }
  MACH_CHECK(dtype == DType::kF16 || dtype == DType::kBF16);
  for (size_t i = 0; i < values.size(); ++i) {
    const uint16_t bits = dtype == DType::kF16 ? FloatToF16(values[i]) : FloatToBf16(values[i]);
    std::memcpy(out.data() + 2 * i, &bits, sizeof(bits));
  }
}

}  // namespace mach::convert
