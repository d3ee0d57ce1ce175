// Linear kernels for 64-bit Arm with the dot-product extension: a strip is four registers of four
// outputs.
//
// sdot multiplies signed bytes. Codes of up to 6 bits are the same signed and unsigned; 8-bit codes
// are moved down by 128, and 128 times the sum of the activations is added back: exact integers.

#include <arm_neon.h>

#include "kernels/linear.h"
#include "tensor/packed_layout.h"

namespace mach::kernels {
namespace {

constexpr int64_t kOutputs = 16;
constexpr int kQuarters = 4;  // registers of a strip

uint8x16_t LoadQuarterLine(const std::byte* at) {
  return vld1q_u8(reinterpret_cast<const uint8_t*>(at));
}

// Moves the bits at [from, from + kPlaneBits) of each byte to `to`, others cleared.
template <int kPlaneBits>
__attribute__((always_inline)) inline uint8x16_t MoveBits(uint8x16_t line, int from, int to) {
  const uint8x16_t mask = vdupq_n_u8(static_cast<uint8_t>(((1U << kPlaneBits) - 1U) << to));
  return vandq_u8(vshlq_u8(line, vdupq_n_s8(static_cast<int8_t>(to - from))), mask);
}

// Quad q of sub-block `sub`, quarter `quarter` of the strip, one code a byte.
template <int kBits, int kSubs>
__attribute__((always_inline)) inline uint8x16_t LoadQuad(const std::byte* block, int sub, int q,
                                                          int quarter) {
  constexpr int kPrimary = kPrimaryBits<kBits>;
  constexpr int kSecondary = kSecondaryBits<kBits>;
  constexpr int kPrimaryQuads = 8 / kPrimary;
  block += quarter * kLineBytes / kQuarters;
  const uint8x16_t low =
      LoadQuarterLine(block + (kSubLines<kPrimary> * sub + q / kPrimaryQuads) * kLineBytes);
  if constexpr (kPrimary == 8) {
    return low;
  } else {
    uint8x16_t codes = MoveBits<kPrimary>(low, q % kPrimaryQuads * kPrimary, 0);
    if constexpr (kSecondary > 0) {
      constexpr int kSecondaryQuads = 8 / kSecondary;
      const int64_t line =
          kSubs * kSubLines<kPrimary> + kSubLines<kSecondary> * sub + q / kSecondaryQuads;
      const uint8x16_t high = LoadQuarterLine(block + line * kLineBytes);
      codes =
          vorrq_u8(codes, MoveBits<kSecondary>(high, q % kSecondaryQuads * kSecondary, kPrimary));
    }
    return codes;
  }
}

float32x4_t LoadFloats(const std::byte* at, FloatType type) {
  if (type == FloatType::kF32) {
    return vld1q_f32(reinterpret_cast<const float*>(at));
  }
  const uint16x4_t bits = vld1_u16(reinterpret_cast<const uint16_t*>(at));
  if (type == FloatType::kF16) {
    return vcvt_f32_f16(vreinterpret_f16_u16(bits));
  }
  return vreinterpretq_f32_u32(vshll_n_u16(bits, 16));
}

int8x16_t BroadcastQuad(const int8_t* at) {
  int32_t quad = 0;
  __builtin_memcpy(&quad, at, sizeof(quad));
  return vreinterpretq_s8_s32(vdupq_n_s32(quad));
}

void StoreOutputs(const float32x4_t (&acc)[kQuarters], int64_t valid, const float* bias, float* y) {
  for (int quarter = 0; quarter < kQuarters; ++quarter) {
    float32x4_t value = acc[quarter];
    if (bias != nullptr) {
      value = vaddq_f32(value, vld1q_f32(bias + 4 * quarter));
    }
    if (valid >= 4 * (quarter + 1)) {
      vst1q_f32(y + 4 * quarter, value);
    } else {
      float part[4];
      vst1q_f32(part, value);
      for (int64_t i = 4 * quarter; i < valid; ++i) {
        y[i] = part[i - 4 * quarter];
      }
    }
  }
}

template <int kBits, int kSubs, int kRows>
void AffineTile(const AffineCall& call, int64_t strip, int64_t row) {
  constexpr int64_t kGroup = kSubs * kSubInputs;
  constexpr int64_t kCodeBytes = kOutputs * kGroup * kBits / 8;
  const FloatType type = call.type;
  const int64_t half_bytes = type == FloatType::kF32 ? 64 : 32;
  const int64_t groups = call.groups;
  const int64_t cols = groups * kGroup;
  const std::byte* block = call.data + strip * call.strip_bytes;
  const int8_t* codes = call.codes + row * cols;
  const float* scales = call.scales + row * groups;
  const float* sums = call.scaled_sums + row * groups;

  float32x4_t acc[kRows][kQuarters];
  for (int r = 0; r < kRows; ++r) {
    for (int quarter = 0; quarter < kQuarters; ++quarter) {
      acc[r][quarter] = vdupq_n_f32(0);
    }
  }
  for (int64_t group = 0; group < groups; ++group) {
    int32x4_t dot[kRows][kQuarters];
    int32x4_t x_sum[kRows];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      x_sum[r] = vdupq_n_s32(0);
#pragma GCC unroll 4
      for (int quarter = 0; quarter < kQuarters; ++quarter) {
        dot[r][quarter] = vdupq_n_s32(0);
      }
    }
    for (int sub = 0; sub < kSubs; ++sub) {
#pragma GCC unroll 8
      for (int q = 0; q < kSubQuads; ++q) {
        int8x16_t w[kQuarters];
#pragma GCC unroll 4
        for (int quarter = 0; quarter < kQuarters; ++quarter) {
          uint8x16_t quad = LoadQuad<kBits, kSubs>(block, sub, q, quarter);
          if constexpr (kBits == 8) {
            quad = veorq_u8(quad, vdupq_n_u8(0x80));
          }
          w[quarter] = vreinterpretq_s8_u8(quad);
        }
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) {
          const int8x16_t x = BroadcastQuad(codes + r * cols + sub * kSubInputs + 4 * q);
#pragma GCC unroll 4
          for (int quarter = 0; quarter < kQuarters; ++quarter) {
            dot[r][quarter] = vdotq_s32(dot[r][quarter], w[quarter], x);
          }
          if constexpr (kBits == 8) {
            x_sum[r] = vdotq_s32(x_sum[r], vdupq_n_s8(1), x);
          }
        }
      }
    }
    const std::byte* block_scales = block + kCodeBytes;
#pragma GCC unroll 4
    for (int quarter = 0; quarter < kQuarters; ++quarter) {
      const int64_t at = quarter * half_bytes / kQuarters;
      const float32x4_t scale = LoadFloats(block_scales + at, type);
      const float32x4_t bias = LoadFloats(block_scales + half_bytes + at, type);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        int32x4_t exact = dot[r][quarter];
        if constexpr (kBits == 8) {
          exact = vaddq_s32(exact, vshlq_n_s32(x_sum[r], 7));
        }
        const float32x4_t product = vmulq_n_f32(scale, scales[r * groups + group]);
        acc[r][quarter] = vfmaq_f32(acc[r][quarter], vcvtq_f32_s32(exact), product);
        acc[r][quarter] = vfmaq_f32(acc[r][quarter], bias, vdupq_n_f32(sums[r * groups + group]));
      }
    }
    codes += kGroup;
    block += kCodeBytes + 2 * half_bytes;
  }
  const float* bias = call.bias == nullptr ? nullptr : call.bias + strip * kOutputs;
  for (int r = 0; r < kRows; ++r) {
    StoreOutputs(acc[r], call.outputs - strip * kOutputs, bias,
                 call.y + (row + r) * call.y_stride + strip * kOutputs);
  }
}

template <int kBits, int kSubs>
void AffineStrips(const AffineCall& call) {
  for (int64_t strip = 0; strip < call.strips; ++strip) {
    int64_t row = 0;
    for (; row + 4 <= call.rows; row += 4) {
      AffineTile<kBits, kSubs, 4>(call, strip, row);
    }
    for (; row + 2 <= call.rows; row += 2) {
      AffineTile<kBits, kSubs, 2>(call, strip, row);
    }
    for (; row < call.rows; ++row) {
      AffineTile<kBits, kSubs, 1>(call, strip, row);
    }
  }
}

template <int kBits>
void AffineBits(const AffineCall& call) {
  switch (call.group_size) {
    case 32:
      return AffineStrips<kBits, 1>(call);
    case 64:
      return AffineStrips<kBits, 2>(call);
    default:
      return AffineStrips<kBits, 4>(call);
  }
}

void AffineNeon(const AffineCall& call) {
  switch (call.bits) {
    case 2:
      return AffineBits<2>(call);
    case 3:
      return AffineBits<3>(call);
    case 4:
      return AffineBits<4>(call);
    case 5:
      return AffineBits<5>(call);
    case 6:
      return AffineBits<6>(call);
    default:
      return AffineBits<8>(call);
  }
}

void QuantizeGroup(const float* x, int64_t size, int8_t* codes, float* scale, float* scaled_sum) {
  // Magnitudes compare like their bit patterns, NaN and infinity above all finite ones.
  uint32x4_t most = vdupq_n_u32(0);
  for (int64_t i = 0; i < size; i += 4) {
    const uint32x4_t bits = vreinterpretq_u32_f32(vld1q_f32(x + i));
    most = vmaxq_u32(most, vandq_u32(bits, vdupq_n_u32(0x7fffffffU)));
  }
  const uint32_t bits = vmaxvq_u32(most);
  float d = 0;
  __builtin_memcpy(&d, &bits, sizeof(d));
  const bool finite = bits < 0x7f800000U;
  if (!finite || d < kSmallestMagnitude) {
    for (int64_t i = 0; i < size; i += 16) {
      vst1q_s8(codes + i, vdupq_n_s8(0));
    }
    *scale = finite ? 0.0F : __builtin_nanf("");
    *scaled_sum = *scale;
    return;
  }
  const float inverse = 127.0F / d;
  int32x4_t sum = vdupq_n_s32(0);
  for (int64_t i = 0; i < size; i += 8) {
    const int32x4_t low = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + i), inverse));
    const int32x4_t high = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + i + 4), inverse));
    sum = vaddq_s32(sum, vaddq_s32(low, high));
    vst1_s8(codes + i, vmovn_s16(vcombine_s16(vmovn_s32(low), vmovn_s32(high))));
  }
  *scale = d * kInverse127;
  *scaled_sum = *scale * static_cast<float>(vaddvq_s32(sum));
}

void QuantizeNeon(const QuantizeCall& call) {
  for (int64_t row = 0; row < call.rows; ++row) {
    for (int64_t group = 0; group < call.groups; ++group) {
      const int64_t at = row * call.groups + group;
      QuantizeGroup(call.x + row * call.x_stride + group * call.group_size, call.group_size,
                    call.codes + at * call.group_size, call.scales + at, call.scaled_sums + at);
    }
  }
}

template <FloatType kType, int kRows>
void DenseTile(const FloatCall& call, int64_t strip, int64_t row) {
  constexpr int64_t kElementBytes = kType == FloatType::kF32 ? 4 : 2;
  const std::byte* weights = call.data + strip * call.strip_bytes;
  const float* x = call.x + row * call.x_stride;
  float32x4_t acc[kRows][kQuarters];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int quarter = 0; quarter < kQuarters; ++quarter) {
      acc[r][quarter] = vdupq_n_f32(0);
    }
  }
  for (int64_t input = 0; input < call.inputs; ++input) {
#pragma GCC unroll 4
    for (int quarter = 0; quarter < kQuarters; ++quarter) {
      const float32x4_t w =
          LoadFloats(weights + (input * kOutputs + 4 * quarter) * kElementBytes, kType);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        acc[r][quarter] = vfmaq_f32(acc[r][quarter], w, vdupq_n_f32(x[r * call.x_stride + input]));
      }
    }
  }
  const int64_t first = strip * kOutputs;
  for (int r = 0; r < kRows; ++r) {
    StoreOutputs(acc[r], call.outputs - first, call.bias == nullptr ? nullptr : call.bias + first,
                 call.y + (row + r) * call.y_stride + first);
  }
}

template <FloatType kType>
void DenseStrips(const FloatCall& call) {
  for (int64_t strip = 0; strip < call.strips; ++strip) {
    int64_t row = 0;
    for (; row + 4 <= call.rows; row += 4) {
      DenseTile<kType, 4>(call, strip, row);
    }
    for (; row < call.rows; ++row) {
      DenseTile<kType, 1>(call, strip, row);
    }
  }
}

void DenseNeon(const FloatCall& call) {
  switch (call.type) {
    case FloatType::kF32:
      return DenseStrips<FloatType::kF32>(call);
    case FloatType::kF16:
      return DenseStrips<FloatType::kF16>(call);
    default:
      return DenseStrips<FloatType::kBF16>(call);
  }
}

}  // namespace

const LinearImpl kLinearNeon = {QuantizeNeon, AffineNeon, DenseNeon};

}  // namespace mach::kernels
