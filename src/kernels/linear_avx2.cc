// Linear kernels for AVX2 + FMA + F16C: a strip is two registers of eight outputs.
//
// Widths up to 6 bits multiply by maddubs: |pair| <= 2 * 63 * 127 = 16002, so 16 bits hold the sum
// of 2 pairs of 6-bit codes, 4 of 5-bit ones and 8 of the rest without saturation, and only then
// are widened. 8-bit codes would saturate; they are widened first.

#include <immintrin.h>

#include "kernels/linear.h"
#include "tensor/packed_layout.h"

namespace mach::kernels {
namespace {

constexpr int64_t kOutputs = 16;
constexpr int64_t kPrefetchBytes = 2048;

__m256i LoadHalfLine(const std::byte* at) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
}

// Quads of a sub-block that 16 bits can sum.
template <int kBits>
constexpr int kQuadsPerFlush = kBits == 6 ? 2 : (kBits == 5 ? 4 : 8);

// Moves the bits at [from, from + kPlaneBits) of each byte to `to`, others cleared.
template <int kPlaneBits>
__attribute__((always_inline)) inline __m256i MoveBits(__m256i line, int from, int to) {
  const __m256i mask = _mm256_set1_epi8(static_cast<char>(((1U << kPlaneBits) - 1U) << to));
  if (from > to) {
    line = _mm256_srli_epi16(line, from - to);
  } else if (from < to) {
    line = _mm256_slli_epi16(line, to - from);
  }
  return _mm256_and_si256(line, mask);
}

// Quad q of sub-block `sub`, half `half` of the strip, one code a byte.
template <int kBits, int kSubs>
__attribute__((always_inline)) inline __m256i LoadQuad(const std::byte* block, int sub, int q,
                                                       int half) {
  constexpr int kPrimary = kPrimaryBits<kBits>;
  constexpr int kSecondary = kSecondaryBits<kBits>;
  constexpr int kPrimaryQuads = 8 / kPrimary;
  block += half * kLineBytes / 2;
  const __m256i low =
      LoadHalfLine(block + (kSubLines<kPrimary> * sub + q / kPrimaryQuads) * kLineBytes);
  if constexpr (kPrimary == 8) {
    return low;
  } else {
    const __m256i codes = MoveBits<kPrimary>(low, q % kPrimaryQuads * kPrimary, 0);
    if constexpr (kSecondary > 0) {
      constexpr int kSecondaryQuads = 8 / kSecondary;
      const int64_t line =
          kSubs * kSubLines<kPrimary> + kSubLines<kSecondary> * sub + q / kSecondaryQuads;
      const __m256i high = LoadHalfLine(block + line * kLineBytes);
      return _mm256_or_si256(
          codes, MoveBits<kSecondary>(high, q % kSecondaryQuads * kSecondary, kPrimary));
    }
    return codes;
  }
}

__m256 LoadFloats(const std::byte* at, FloatType type) {
  if (type == FloatType::kF32) {
    return _mm256_loadu_ps(reinterpret_cast<const float*>(at));
  }
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
  if (type == FloatType::kF16) {
    return _mm256_cvtph_ps(bits);
  }
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}

__m256i BroadcastQuad(const int8_t* at) {
  int quad = 0;
  __builtin_memcpy(&quad, at, sizeof(quad));
  return _mm256_set1_epi32(quad);
}

// a + b, in the order written: compilers turn chains of integer additions into trees, which keeps
// all their terms alive and spills them.
template <bool kWords>
__attribute__((always_inline)) inline __m256i AddInOrder(__m256i a, __m256i b) {
  __m256i sum = kWords ? _mm256_add_epi16(a, b) : _mm256_add_epi32(a, b);
  asm("" : "+x"(sum));
  return sum;
}

// dot[row][half] += w . x over one sub-block; x is the sub-block of the first row. Quad by quad,
// so that an activation is broadcast once for both halves and a weight unpacked once for all rows.
template <int kBits, int kSubs, int kRows>
__attribute__((always_inline)) inline void DotSub(const std::byte* block, int sub, const int8_t* x,
                                                  int64_t cols, __m256i (&dot)[kRows][2]) {
  if constexpr (kBits == 8) {
    const __m256i low_byte = _mm256_set1_epi16(0x00ff);
#pragma GCC unroll 8
    for (int q = 0; q < 8; ++q) {
      const __m256i w0 = LoadQuad<kBits, kSubs>(block, sub, q, 0);
      const __m256i w1 = LoadQuad<kBits, kSubs>(block, sub, q, 1);
      const __m256i even[2] = {_mm256_and_si256(w0, low_byte), _mm256_and_si256(w1, low_byte)};
      const __m256i odd[2] = {_mm256_srli_epi16(w0, 8), _mm256_srli_epi16(w1, 8)};
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const __m256i quad = BroadcastQuad(x + r * cols + 4 * q);
        const __m256i x_even = _mm256_srai_epi16(_mm256_slli_epi16(quad, 8), 8);
        const __m256i x_odd = _mm256_srai_epi16(quad, 8);
#pragma GCC unroll 2
        for (int half = 0; half < 2; ++half) {
          const __m256i pairs = _mm256_add_epi32(_mm256_madd_epi16(even[half], x_even),
                                                 _mm256_madd_epi16(odd[half], x_odd));
          dot[r][half] = AddInOrder<false>(dot[r][half], pairs);
        }
      }
    }
  } else {
    const __m256i ones = _mm256_set1_epi16(1);
#pragma GCC unroll 4
    for (int flush = 0; flush < 8; flush += kQuadsPerFlush<kBits>) {
      __m256i pairs[kRows][2];
#pragma GCC unroll 8
      for (int q = flush; q < flush + kQuadsPerFlush<kBits>; ++q) {
        const __m256i w0 = LoadQuad<kBits, kSubs>(block, sub, q, 0);
        const __m256i w1 = LoadQuad<kBits, kSubs>(block, sub, q, 1);
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) {
          const __m256i quad = BroadcastQuad(x + r * cols + 4 * q);
          const __m256i low = _mm256_maddubs_epi16(w0, quad);
          const __m256i high = _mm256_maddubs_epi16(w1, quad);
          pairs[r][0] = q == flush ? low : AddInOrder<true>(pairs[r][0], low);
          pairs[r][1] = q == flush ? high : AddInOrder<true>(pairs[r][1], high);
        }
      }
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        dot[r][0] = AddInOrder<false>(dot[r][0], _mm256_madd_epi16(pairs[r][0], ones));
        dot[r][1] = AddInOrder<false>(dot[r][1], _mm256_madd_epi16(pairs[r][1], ones));
      }
    }
  }
}

void StoreOutputs(const __m256 (&acc)[2], int64_t valid, const float* bias, float* y) {
  for (int half = 0; half < 2; ++half) {
    __m256 value = acc[half];
    if (bias != nullptr) {
      value = _mm256_add_ps(value, _mm256_loadu_ps(bias + 8 * half));
    }
    if (valid >= 8 * (half + 1)) {
      _mm256_storeu_ps(y + 8 * half, value);
    } else {
      alignas(32) float part[8];
      _mm256_store_ps(part, value);
      for (int64_t i = 8 * half; i < valid; ++i) {
        y[i] = part[i - 8 * half];
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

  __m256 acc[kRows][2];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
    acc[r][0] = _mm256_setzero_ps();
    acc[r][1] = _mm256_setzero_ps();
  }
  for (int64_t group = 0; group < groups; ++group) {
    for (int64_t line = 0; line < kCodeBytes + kLineBytes; line += kLineBytes) {
      _mm_prefetch(reinterpret_cast<const char*>(block) + kPrefetchBytes + line, _MM_HINT_T0);
    }
    __m256i dot[kRows][2];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      dot[r][0] = _mm256_setzero_si256();
      dot[r][1] = _mm256_setzero_si256();
    }
#pragma GCC unroll 4
    for (int sub = 0; sub < kSubs; ++sub) {
      DotSub<kBits, kSubs, kRows>(block, sub, codes + sub * kSubInputs, cols, dot);
    }
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      const std::byte* at = block + kCodeBytes + half * half_bytes / 2;
      const __m256 scale = LoadFloats(at, type);
      const __m256 bias = LoadFloats(at + half_bytes, type);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const __m256 product = _mm256_mul_ps(scale, _mm256_set1_ps(scales[r * groups + group]));
        acc[r][half] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot[r][half]), product, acc[r][half]);
        acc[r][half] =
            _mm256_fmadd_ps(bias, _mm256_set1_ps(sums[r * groups + group]), acc[r][half]);
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
    // Three rows are what 16 registers hold; four are two and two.
    int64_t row = 0;
    while (row < call.rows) {
      const int64_t left = call.rows - row;
      if (left == 3 || left > 4) {
        AffineTile<kBits, kSubs, 3>(call, strip, row);
        row += 3;
      } else if (left >= 2) {
        AffineTile<kBits, kSubs, 2>(call, strip, row);
        row += 2;
      } else {
        AffineTile<kBits, kSubs, 1>(call, strip, row);
        row += 1;
      }
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

void AffineAvx2(const AffineCall& call) {
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

int32_t ReduceMax(__m256i v) {
  __m128i most = _mm_max_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  most = _mm_max_epi32(most, _mm_shuffle_epi32(most, 0x4e));
  most = _mm_max_epi32(most, _mm_shuffle_epi32(most, 0xb1));
  return _mm_cvtsi128_si32(most);
}

int32_t ReduceAdd(__m256i v) {
  __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1));
  return _mm_cvtsi128_si32(sum);
}

void QuantizeGroup(const float* x, int64_t size, int8_t* codes, float* scale, float* scaled_sum) {
  // Magnitudes compare like their bit patterns, NaN and infinity above all finite ones.
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  __m256i most = _mm256_setzero_si256();
  for (int64_t i = 0; i < size; i += 8) {
    const __m256i bits = _mm256_castps_si256(_mm256_loadu_ps(x + i));
    most = _mm256_max_epi32(most, _mm256_and_si256(bits, magnitude));
  }
  const int32_t bits = ReduceMax(most);
  float d = 0;
  __builtin_memcpy(&d, &bits, sizeof(d));
  const bool finite = bits < 0x7f800000;
  if (!finite || d < kSmallestMagnitude) {
    for (int64_t i = 0; i < size; i += 16) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + i), _mm_setzero_si128());
    }
    *scale = finite ? 0.0F : __builtin_nanf("");
    *scaled_sum = *scale;
    return;
  }
  const __m256 inverse = _mm256_set1_ps(127.0F / d);
  __m256i sum = _mm256_setzero_si256();
  for (int64_t i = 0; i < size; i += 16) {
    const __m256i low = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + i), inverse));
    const __m256i high = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + i + 8), inverse));
    sum = _mm256_add_epi32(sum, _mm256_add_epi32(low, high));
    // Packing works on 128-bit lanes: put the middle quarters back in order.
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8);
    _mm_storeu_si128(
        reinterpret_cast<__m128i*>(codes + i),
        _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
  }
  *scale = d * kInverse127;
  *scaled_sum = *scale * static_cast<float>(ReduceAdd(sum));
}

void QuantizeAvx2(const QuantizeCall& call) {
  for (int64_t row = 0; row < call.rows; ++row) {
    for (int64_t group = 0; group < call.groups; ++group) {
      const int64_t at = row * call.groups + group;
      QuantizeGroup(call.x + row * call.x_stride + group * call.group_size, call.group_size,
                    call.codes + at * call.group_size, call.scales + at, call.scaled_sums + at);
    }
  }
}

// kRows rows x kStrips strips, so that the chains in flight hide the latency of an fma.
template <FloatType kType, int kRows, int kStrips>
void DenseTile(const FloatCall& call, int64_t strip, int64_t row) {
  constexpr int64_t kElementBytes = kType == FloatType::kF32 ? 4 : 2;
  const std::byte* weights = call.data + strip * call.strip_bytes;
  const float* x = call.x + row * call.x_stride;
  __m256 acc[kRows][kStrips][2];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int s = 0; s < kStrips; ++s) {
      acc[r][s][0] = _mm256_setzero_ps();
      acc[r][s][1] = _mm256_setzero_ps();
    }
  }
  for (int64_t input = 0; input < call.inputs; ++input) {
#pragma GCC unroll 4
    for (int s = 0; s < kStrips; ++s) {
      const std::byte* at = weights + s * call.strip_bytes + input * kOutputs * kElementBytes;
      const __m256 low = LoadFloats(at, kType);
      const __m256 high = LoadFloats(at + 8 * kElementBytes, kType);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const __m256 value = _mm256_set1_ps(x[r * call.x_stride + input]);
        acc[r][s][0] = _mm256_fmadd_ps(low, value, acc[r][s][0]);
        acc[r][s][1] = _mm256_fmadd_ps(high, value, acc[r][s][1]);
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int s = 0; s < kStrips; ++s) {
      const int64_t first = (strip + s) * kOutputs;
      StoreOutputs(acc[r][s], call.outputs - first,
                   call.bias == nullptr ? nullptr : call.bias + first,
                   call.y + (row + r) * call.y_stride + first);
    }
  }
}

template <FloatType kType>
void DenseStrips(const FloatCall& call) {
  int64_t row = 0;
  for (; row + 4 <= call.rows; row += 4) {
    for (int64_t strip = 0; strip < call.strips; ++strip) {
      DenseTile<kType, 4, 1>(call, strip, row);
    }
  }
  for (; row < call.rows; ++row) {
    int64_t strip = 0;
    for (; strip + 4 <= call.strips; strip += 4) {
      DenseTile<kType, 1, 4>(call, strip, row);
    }
    for (; strip < call.strips; ++strip) {
      DenseTile<kType, 1, 1>(call, strip, row);
    }
  }
}

void DenseAvx2(const FloatCall& call) {
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

const LinearImpl kLinearAvx2 = {QuantizeAvx2, AffineAvx2, DenseAvx2};

}  // namespace mach::kernels
