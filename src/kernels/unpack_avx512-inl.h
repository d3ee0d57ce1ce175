// Reading packed weights with AVX-512: for the files compiled for it, each with its own copy.
#pragma once

#include <cstddef>

#include <immintrin.h>

#include "kernels/linear.h"
#include "tensor/packed_layout.h"

namespace mach::kernels {
namespace {

inline __m512i LoadLine(const std::byte* at) {
  return _mm512_loadu_si512(at);
}

// Unpacks sub-block `sub` of a block into w[0..7], one code a byte.
template <int kBits, int kSubs>
__attribute__((always_inline)) inline void UnpackSub(const std::byte* block, int sub,
                                                     __m512i (&w)[kSubQuads]) {
  if constexpr (kBits == 8) {
#pragma GCC unroll 8
    for (int q = 0; q < 8; ++q) {
      w[q] = LoadLine(block + (8 * sub + q) * kLineBytes);
    }
  } else if constexpr (kBits >= 4) {
    const __m512i low = _mm512_set1_epi8(0x0f);
#pragma GCC unroll 4
    for (int p = 0; p < 4; ++p) {
      const __m512i line = LoadLine(block + (4 * sub + p) * kLineBytes);
      w[2 * p] = _mm512_and_si512(line, low);
      w[2 * p + 1] = _mm512_and_si512(_mm512_srli_epi16(line, 4), low);
    }
    const std::byte* rest = block + 4 * kSubs * kLineBytes;
    if constexpr (kBits == 5) {
      const __m512i line = LoadLine(rest + sub * kLineBytes);
      const __m512i bit = _mm512_set1_epi8(0x10);
#pragma GCC unroll 8
      for (int q = 0; q < 8; ++q) {
        const __m512i moved = q < 4 ? _mm512_slli_epi16(line, static_cast<unsigned>(4 - q))
                                    : _mm512_srli_epi16(line, static_cast<unsigned>(q - 4));
        // w | (moved & bit)
        w[q] = _mm512_ternarylogic_epi32(w[q], moved, bit, 0xf8);
      }
    } else if constexpr (kBits == 6) {
      const __m512i bits = _mm512_set1_epi8(0x30);
#pragma GCC unroll 2
      for (int p = 0; p < 2; ++p) {
        const __m512i line = LoadLine(rest + (2 * sub + p) * kLineBytes);
        w[4 * p] = _mm512_ternarylogic_epi32(w[4 * p], _mm512_slli_epi16(line, 4), bits, 0xf8);
        w[4 * p + 1] =
            _mm512_ternarylogic_epi32(w[4 * p + 1], _mm512_slli_epi16(line, 2), bits, 0xf8);
        w[4 * p + 2] = _mm512_ternarylogic_epi32(w[4 * p + 2], line, bits, 0xf8);
        w[4 * p + 3] =
            _mm512_ternarylogic_epi32(w[4 * p + 3], _mm512_srli_epi16(line, 2), bits, 0xf8);
      }
    }
  } else {
    const __m512i low = _mm512_set1_epi8(0x03);
#pragma GCC unroll 2
    for (int p = 0; p < 2; ++p) {
      const __m512i line = LoadLine(block + (2 * sub + p) * kLineBytes);
      w[4 * p] = _mm512_and_si512(line, low);
      w[4 * p + 1] = _mm512_and_si512(_mm512_srli_epi16(line, 2), low);
      w[4 * p + 2] = _mm512_and_si512(_mm512_srli_epi16(line, 4), low);
      w[4 * p + 3] = _mm512_and_si512(_mm512_srli_epi16(line, 6), low);
    }
    if constexpr (kBits == 3) {
      const __m512i line = LoadLine(block + 2 * kSubs * kLineBytes + sub * kLineBytes);
      const __m512i bit = _mm512_set1_epi8(0x04);
#pragma GCC unroll 8
      for (int q = 0; q < 8; ++q) {
        const __m512i moved = q < 2 ? _mm512_slli_epi16(line, static_cast<unsigned>(2 - q))
                                    : _mm512_srli_epi16(line, static_cast<unsigned>(q - 2));
        w[q] = _mm512_ternarylogic_epi32(w[q], moved, bit, 0xf8);
      }
    }
  }
}

inline __m512 LoadFloats(const std::byte* at, FloatType type) {
  if (type == FloatType::kF16) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)));
  }
  if (type == FloatType::kBF16) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
  return _mm512_loadu_ps(at);
}

}  // namespace
}  // namespace mach::kernels
