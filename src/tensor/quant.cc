#include "tensor/quant.h"

#include <cmath>
#include <cstring>
#include <vector>

#include "base/check.h"
#include "tensor/half.h"

namespace mach {

bool IsSupported(const AffineScheme& scheme) {
  const bool bits = (scheme.bits >= 2 && scheme.bits <= 6) || scheme.bits == 8;
  const bool group = scheme.group_size == 32 || scheme.group_size == 64 || scheme.group_size == 128;
  return bits && group;
}

void UnpackAffineRow(const AffineMatrixView& matrix, int64_t row, std::span<uint8_t> out) {
  MACH_DCHECK(static_cast<int64_t>(out.size()) == matrix.in_features);
  const int bits = matrix.scheme.bits;
  const int64_t row_bytes = matrix.in_features * bits / 8;
  const auto* bytes = reinterpret_cast<const uint8_t*>(matrix.codes.bytes.data()) + row * row_bytes;
  const uint32_t mask = (1U << bits) - 1U;
  for (int64_t i = 0; i < matrix.in_features; ++i) {
    const int64_t bit = i * bits;
    uint32_t window = bytes[bit / 8];
    if (bit % 8 + bits > 8) {
      window |= static_cast<uint32_t>(bytes[bit / 8 + 1]) << 8;
    }
    out[static_cast<size_t>(i)] = static_cast<uint8_t>((window >> (bit % 8)) & mask);
  }
}

float FloatElement(const TensorView& tensor, int64_t index) {
  const std::byte* at =
      tensor.bytes.data() + index * static_cast<int64_t>(DTypeBytes(tensor.dtype));
  if (tensor.dtype == DType::kF32) {
    float value = 0;
    std::memcpy(&value, at, sizeof(value));
    return value;
  }
  uint16_t bits = 0;
  std::memcpy(&bits, at, sizeof(bits));
  MACH_DCHECK(tensor.dtype == DType::kF16 || tensor.dtype == DType::kBF16);
  return tensor.dtype == DType::kF16 ? F16ToFloat(bits) : Bf16ToFloat(bits);
}

void DequantizeAffineRow(const AffineMatrixView& matrix, int64_t row, std::span<float> out) {
  std::vector<uint8_t> codes(out.size());
  UnpackAffineRow(matrix, row, codes);
  const int64_t group_size = matrix.scheme.group_size;
  const int64_t groups = matrix.in_features / group_size;
  for (int64_t group = 0; group < groups; ++group) {
    const float scale = FloatElement(matrix.scales, row * groups + group);
    const float bias = FloatElement(matrix.biases, row * groups + group);
    for (int64_t i = group * group_size; i < (group + 1) * group_size; ++i) {
      const auto at = static_cast<size_t>(i);
      out[at] = std::fma(scale, static_cast<float>(codes[at]), bias);
    }
  }
}

}  // namespace mach
