// Linear kernels for AVX-512 with VNNI: 16 outputs in one register, activations by broadcast.
//
// A tile is kRows rows x one strip with its accumulators in registers; 32 inputs of weights are
// unpacked into eight registers and used by every row of the tile. Per row and 32 inputs that is
// eight dot products, and per group one conversion, one product and two fused multiply-adds.
// Rows of a tile are few enough that no accumulator spills.

#include <immintrin.h>

#include "kernels/linear.h"
#include "kernels/unpack_avx512-inl.h"
#include "tensor/packed_layout.h"

namespace mach::kernels {
namespace {

constexpr int64_t kOutputs = 16;

// How far ahead weights are fetched where one tile of rows is all that passes over a strip, so that
// memory is the limit. With more tiles the last one fetches the next strip.
constexpr int64_t kPrefetchBytes = 4096;

// Rows whose activations share the L2 cache with one strip while all strips pass over them.
constexpr int64_t kRowBlockBytes = 512 << 10;

__m512i BroadcastQuad(const int8_t* at) {
  int quad = 0;
  __builtin_memcpy(&quad, at, sizeof(quad));
  return _mm512_set1_epi32(quad);
}

template <int kBits, int kSubs, int kRows>
void AffineTile(const AffineCall& call, int64_t strip, int64_t row, int64_t prefetch_bytes) {
  constexpr int64_t kGroup = kSubs * kSubInputs;
  constexpr int64_t kCodeBytes = kOutputs * kGroup * kBits / 8;
  const FloatType type = call.type;
  const int64_t half_bytes = type == FloatType::kF32 ? 64 : 32;
  const int64_t cols = call.groups * kGroup;
  const int64_t groups = call.groups;
  const std::byte* block = call.data + strip * call.strip_bytes;
  const int8_t* codes = call.codes + row * cols;
  const float* scales = call.scales + row * groups;
  const float* sums = call.scaled_sums + row * groups;

  __m512 acc[kRows];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    acc[r] = _mm512_setzero_ps();
  }
  for (int64_t group = 0; group < groups; ++group) {
    if (prefetch_bytes != 0) {
#pragma GCC unroll 34
      for (int64_t line = 0; line < kCodeBytes + kLineBytes; line += kLineBytes) {
        _mm_prefetch(reinterpret_cast<const char*>(block) + prefetch_bytes + line, _MM_HINT_T0);
      }
    }
    __m512i dot[kRows];
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      dot[r] = _mm512_setzero_si512();
    }
#pragma GCC unroll 4
    for (int sub = 0; sub < kSubs; ++sub) {
      __m512i w[kSubQuads];
      UnpackSub<kBits, kSubs>(block, sub, w);
      const int8_t* x = codes + sub * kSubInputs;
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
        for (int q = 0; q < kSubQuads; ++q) {
          dot[r] = _mm512_dpbusd_epi32(dot[r], w[q], BroadcastQuad(x + 4 * q));
        }
        x += cols;
      }
    }
    const __m512 scale = LoadFloats(block + kCodeBytes, type);
    const __m512 bias = LoadFloats(block + kCodeBytes + half_bytes, type);
    const float* row_scale = scales + group;
    const float* row_sum = sums + group;
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const __m512 product = _mm512_mul_ps(scale, _mm512_set1_ps(*row_scale));
      acc[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[r]), product, acc[r]);
      acc[r] = _mm512_fmadd_ps(bias, _mm512_set1_ps(*row_sum), acc[r]);
      row_scale += groups;
      row_sum += groups;
    }
    codes += kGroup;
    block += kCodeBytes + 2 * half_bytes;
  }
  const int64_t valid = call.outputs - strip * kOutputs;
  const auto mask = static_cast<__mmask16>(valid >= kOutputs ? 0xffff : (1 << valid) - 1);
  float* y = call.y + row * call.y_stride + strip * kOutputs;
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    if (call.bias != nullptr) {
      acc[r] = _mm512_add_ps(acc[r], _mm512_loadu_ps(call.bias + strip * kOutputs));
    }
    _mm512_mask_storeu_ps(y, mask, acc[r]);
    y += call.y_stride;
  }
}

using TileFunction = void (*)(const AffineCall&, int64_t, int64_t, int64_t);

// Rows of the largest tile: beyond these the accumulators spill.
template <int kSubs>
constexpr int64_t kMostRows = kSubs == 1 ? 10 : 8;

template <int kBits, int kSubs>
constexpr TileFunction kTiles[10] = {
    AffineTile<kBits, kSubs, 1>,
    AffineTile<kBits, kSubs, 2>,
    AffineTile<kBits, kSubs, 3>,
    AffineTile<kBits, kSubs, 4>,
    AffineTile<kBits, kSubs, 5>,
    AffineTile<kBits, kSubs, 6>,
    AffineTile<kBits, kSubs, 7>,
    AffineTile<kBits, kSubs, 8>,
    kSubs == 1 ? AffineTile<kBits, 1, 9> : nullptr,
    kSubs == 1 ? AffineTile<kBits, 1, 10> : nullptr,
};

template <int kBits, int kSubs>
void AffineRows(const AffineCall& call, int64_t strip, int64_t row, int64_t end) {
  const int64_t rows = end - row;
  const int64_t tiles = (rows + kMostRows<kSubs> - 1) / kMostRows<kSubs>;
  for (int64_t tile = 0; tile < tiles; ++tile) {
    // Tiles of equal height, give or take one row.
    const int64_t next = end - rows * (tiles - 1 - tile) / tiles;
    const int64_t ahead = tiles == 1 ? kPrefetchBytes : call.strip_bytes;
    kTiles<kBits, kSubs>[next - row - 1](call, strip, row, tile == tiles - 1 ? ahead : 0);
    row = next;
  }
}

template <int kBits, int kSubs>
void AffineStrips(const AffineCall& call) {
  const int64_t cols = call.groups * call.group_size;
  const int64_t fitting = kRowBlockBytes / (cols > 0 ? cols : 1) / 120 * 120;
  const int64_t row_block = fitting < 120 ? 120 : fitting;
  for (int64_t begin = 0; begin < call.rows; begin += row_block) {
    const int64_t end = begin + row_block < call.rows ? begin + row_block : call.rows;
    for (int64_t strip = 0; strip < call.strips; ++strip) {
      AffineRows<kBits, kSubs>(call, strip, begin, end);
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

void AffineAvx512(const AffineCall& call) {
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
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  __m512i most = _mm512_setzero_si512();
  for (int64_t i = 0; i < size; i += 16) {
    most = _mm512_max_epi32(most, _mm512_and_si512(_mm512_loadu_si512(x + i), magnitude));
  }
  const int32_t bits = _mm512_reduce_max_epi32(most);
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
  const __m512 inverse = _mm512_set1_ps(127.0F / d);
  __m512i sum = _mm512_setzero_si512();
  for (int64_t i = 0; i < size; i += 16) {
    const __m512i rounded = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + i), inverse));
    sum = _mm512_add_epi32(sum, rounded);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + i), _mm512_cvtepi32_epi8(rounded));
  }
  *scale = d * kInverse127;
  *scaled_sum = *scale * static_cast<float>(_mm512_reduce_add_epi32(sum));
}

void QuantizeAvx512(const QuantizeCall& call) {
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
  __m512 acc[kRows][kStrips];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int s = 0; s < kStrips; ++s) {
      acc[r][s] = _mm512_setzero_ps();
    }
  }
  const float* x = call.x + row * call.x_stride;
  for (int64_t input = 0; input < call.inputs; ++input) {
    __m512 w[kStrips];
#pragma GCC unroll 4
    for (int s = 0; s < kStrips; ++s) {
      w[s] = LoadFloats(weights + s * call.strip_bytes + input * kOutputs * kElementBytes, kType);
    }
    const float* value = x + input;
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const __m512 broadcast = _mm512_set1_ps(*value);
      value += call.x_stride;
#pragma GCC unroll 4
      for (int s = 0; s < kStrips; ++s) {
        acc[r][s] = _mm512_fmadd_ps(w[s], broadcast, acc[r][s]);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int s = 0; s < kStrips; ++s) {
      const int64_t first = (strip + s) * kOutputs;
      const int64_t valid = call.outputs - first;
      const auto mask = static_cast<__mmask16>(valid >= kOutputs ? 0xffff : (1 << valid) - 1);
      if (call.bias != nullptr) {
        acc[r][s] = _mm512_add_ps(acc[r][s], _mm512_loadu_ps(call.bias + first));
      }
      _mm512_mask_storeu_ps(call.y + (row + r) * call.y_stride + first, mask, acc[r][s]);
    }
  }
}

template <FloatType kType, int kStrips>
void DenseRows(const FloatCall& call, int64_t strip) {
  int64_t row = 0;
  for (; row + 6 <= call.rows; row += 6) {
    DenseTile<kType, 6, kStrips>(call, strip, row);
  }
  for (; row + 3 <= call.rows; row += 3) {
    DenseTile<kType, 3, kStrips>(call, strip, row);
  }
  for (; row < call.rows; ++row) {
    DenseTile<kType, 1, kStrips>(call, strip, row);
  }
}

template <FloatType kType>
void DenseStrips(const FloatCall& call) {
  int64_t strip = 0;
  for (; strip + 4 <= call.strips; strip += 4) {
    DenseRows<kType, 4>(call, strip);
  }
  for (; strip < call.strips; ++strip) {
    DenseRows<kType, 1>(call, strip);
  }
}

void DenseAvx512(const FloatCall& call) {
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

const LinearImpl kLinearAvx512 = {QuantizeAvx512, AffineAvx512, DenseAvx512};

}  // namespace mach::kernels
