// The portable linear kernels: the definition that every other variant is tested against.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "kernels/linear.h"
#include "tensor/half.h"
#include "tensor/packed_layout.h"

namespace mach::kernels {
namespace {

constexpr int64_t kOutputs = 16;
constexpr int64_t kMaxGroup = 128;

float LoadFloat(const std::byte* base, int64_t index, FloatType type) {
  if (type == FloatType::kF32) {
    float value = 0;
    std::memcpy(&value, base + index * 4, sizeof(value));
    return value;
  }
  uint16_t bits = 0;
  std::memcpy(&bits, base + index * 2, sizeof(bits));
  return type == FloatType::kF16 ? F16ToFloat(bits) : Bf16ToFloat(bits);
}

int64_t FloatTypeBytes(FloatType type) {
  return type == FloatType::kF32 ? 4 : 2;
}

void QuantizeGroup(const float* x, int64_t size, int8_t* codes, float* scale, float* scaled_sum) {
  float d = 0;
  bool finite = true;
  for (int64_t i = 0; i < size; ++i) {
    finite = finite && std::isfinite(x[i]);
    d = std::max(d, std::fabs(x[i]));
  }
  if (!finite || d < kSmallestMagnitude) {
    std::memset(codes, 0, static_cast<size_t>(size));
    *scale = finite ? 0.0F : std::numeric_limits<float>::quiet_NaN();
    *scaled_sum = *scale;
    return;
  }
  const float inverse = 127.0F / d;
  int32_t sum = 0;
  for (int64_t i = 0; i < size; ++i) {
    codes[i] = static_cast<int8_t>(std::nearbyint(x[i] * inverse));
    sum += codes[i];
  }
  *scale = d * kInverse127;
  *scaled_sum = *scale * static_cast<float>(sum);
}

void QuantizeScalar(const QuantizeCall& call) {
  for (int64_t row = 0; row < call.rows; ++row) {
    for (int64_t group = 0; group < call.groups; ++group) {
      const int64_t at = row * call.groups + group;
      QuantizeGroup(call.x + row * call.x_stride + group * call.group_size, call.group_size,
                    call.codes + at * call.group_size, call.scales + at, call.scaled_sums + at);
    }
  }
}

// The bits of one plane, added to codes[input][output] at `shift`.
void ReadPlane(const uint8_t* plane, int plane_bits, int shift, int64_t group_size,
               uint8_t (*codes)[kOutputs]) {
  const int quads_per_line = 8 / plane_bits;
  const uint32_t mask = (1U << plane_bits) - 1U;
  for (int64_t input = 0; input < group_size; ++input) {
    const int64_t quad = input / 4;
    const uint8_t* line = plane + quad / quads_per_line * kLineBytes;
    const auto bit = static_cast<int>(quad % quads_per_line) * plane_bits;
    for (int64_t output = 0; output < kOutputs; ++output) {
      const uint32_t code = line[output * 4 + input % 4] >> bit & mask;
      codes[input][output] = static_cast<uint8_t>(codes[input][output] | code << shift);
    }
  }
}

void ReadBlock(const std::byte* block, int bits, int64_t group_size, uint8_t (*codes)[kOutputs]) {
  std::memset(codes, 0, static_cast<size_t>(group_size * kOutputs));
  const auto* planes = reinterpret_cast<const uint8_t*>(block);
  const int primary = bits == 8 ? 8 : (bits >= 4 ? 4 : 2);
  ReadPlane(planes, primary, 0, group_size, codes);
  if (bits > primary) {
    ReadPlane(planes + group_size * kOutputs * primary / 8, bits - primary, primary, group_size,
              codes);
  }
}

void AffineScalar(const AffineCall& call) {
  const int64_t type_bytes = FloatTypeBytes(call.type);
  const int64_t code_bytes = kOutputs * call.group_size * call.bits / 8;
  const int64_t block_bytes = code_bytes + 2 * kOutputs * type_bytes;
  const int64_t cols = call.groups * call.group_size;
  uint8_t codes[kMaxGroup][kOutputs];
  for (int64_t strip = 0; strip < call.strips; ++strip) {
    const int64_t valid = std::min(kOutputs, call.outputs - strip * kOutputs);
    // Group by group over all rows: y itself is the accumulator, so a block is unpacked once.
    for (int64_t group = 0; group < call.groups; ++group) {
      const std::byte* block = call.data + strip * call.strip_bytes + group * block_bytes;
      ReadBlock(block, call.bits, call.group_size, codes);
      for (int64_t row = 0; row < call.rows; ++row) {
        const int8_t* x = call.codes + row * cols + group * call.group_size;
        const float x_scale = call.scales[row * call.groups + group];
        const float x_sum = call.scaled_sums[row * call.groups + group];
        int32_t dots[kOutputs] = {};
        for (int64_t input = 0; input < call.group_size; ++input) {
          for (int64_t output = 0; output < kOutputs; ++output) {
            dots[output] += int32_t{codes[input][output]} * int32_t{x[input]};
          }
        }
        float* y = call.y + row * call.y_stride + strip * kOutputs;
        for (int64_t output = 0; output < valid; ++output) {
          const float scale = LoadFloat(block + code_bytes, output, call.type);
          const float bias = LoadFloat(block + code_bytes, kOutputs + output, call.type);
          float acc = group == 0 ? 0.0F : y[output];
          acc = std::fma(static_cast<float>(dots[output]), scale * x_scale, acc);
          y[output] = std::fma(bias, x_sum, acc);
        }
      }
    }
    for (int64_t row = 0; call.bias != nullptr && row < call.rows; ++row) {
      for (int64_t output = 0; output < valid; ++output) {
        call.y[row * call.y_stride + strip * kOutputs + output] +=
            call.bias[strip * kOutputs + output];
      }
    }
  }
}

void DenseScalar(const FloatCall& call) {
  for (int64_t strip = 0; strip < call.strips; ++strip) {
    const std::byte* weights = call.data + strip * call.strip_bytes;
    const int64_t valid = std::min(kOutputs, call.outputs - strip * kOutputs);
    for (int64_t row = 0; row < call.rows; ++row) {
      const float* x = call.x + row * call.x_stride;
      float acc[kOutputs] = {};
      for (int64_t input = 0; input < call.inputs; ++input) {
        for (int64_t output = 0; output < kOutputs; ++output) {
          acc[output] = std::fma(LoadFloat(weights, input * kOutputs + output, call.type), x[input],
                                 acc[output]);
        }
      }
      for (int64_t output = 0; output < valid; ++output) {
        const int64_t at = strip * kOutputs + output;
        call.y[row * call.y_stride + at] =
            call.bias == nullptr ? acc[output] : acc[output] + call.bias[at];
      }
    }
  }
}

}  // namespace

const LinearImpl kLinearScalar = {QuantizeScalar, AffineScalar, DenseScalar};

}  // namespace mach::kernels
