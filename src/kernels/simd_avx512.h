// F32x16 with AVX-512 F/BW/DQ/VL: one register. Included by vector_avx512.cc only; see simd-inl.h
// for what every variant provides.
#pragma once

#include <cstdint>

#include <immintrin.h>

#include "kernels/vector.h"

#define MACH_SIMD simd_avx512
#define MACH_INLINE inline __attribute__((always_inline))

namespace mach::kernels::simd_avx512 {

// 32 registers: 12 rows x 2 vectors of scores, 6 rows x 4 vectors of outputs.
inline constexpr int kScoreRows = 12;
inline constexpr int kScoreVectors = 2;
inline constexpr int kValueRows = 6;
inline constexpr int kValueVectors = 4;
inline constexpr int kDeltaVectors = 4;

struct F32x16 {
  __m512 v;
};

MACH_INLINE __mmask16 FirstLanes(int64_t count) {
  return static_cast<__mmask16>((1U << static_cast<unsigned>(count)) - 1U);
}

MACH_INLINE F32x16 Set1(float x) {
  return {_mm512_set1_ps(x)};
}
MACH_INLINE F32x16 Load(const float* p) {
  return {_mm512_loadu_ps(p)};
}
MACH_INLINE F32x16 LoadPartial(const float* p, int64_t count) {
  return {_mm512_maskz_loadu_ps(FirstLanes(count), p)};
}
MACH_INLINE void Store(F32x16 a, float* p) {
  _mm512_storeu_ps(p, a.v);
}
MACH_INLINE void StorePartial(F32x16 a, float* p, int64_t count) {
  _mm512_mask_storeu_ps(p, FirstLanes(count), a.v);
}

MACH_INLINE void StoreStream(F32x16 a, float* p) {
  _mm512_stream_ps(p, a.v);
}
MACH_INLINE void StreamFence() {
  _mm_sfence();
}

MACH_INLINE F32x16 Add(F32x16 a, F32x16 b) {
  return {_mm512_add_ps(a.v, b.v)};
}
MACH_INLINE F32x16 Sub(F32x16 a, F32x16 b) {
  return {_mm512_sub_ps(a.v, b.v)};
}
MACH_INLINE F32x16 Mul(F32x16 a, F32x16 b) {
  return {_mm512_mul_ps(a.v, b.v)};
}
MACH_INLINE F32x16 Div(F32x16 a, F32x16 b) {
  return {_mm512_div_ps(a.v, b.v)};
}
MACH_INLINE F32x16 Fma(F32x16 a, F32x16 b, F32x16 c) {
  return {_mm512_fmadd_ps(a.v, b.v, c.v)};
}
MACH_INLINE F32x16 Max(F32x16 a, F32x16 b) {
  return {_mm512_max_ps(a.v, b.v)};
}

MACH_INLINE F32x16 SelectLess(F32x16 a, F32x16 b, F32x16 yes, F32x16 no) {
  return {_mm512_mask_mov_ps(no.v, _mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ), yes.v)};
}
MACH_INLINE F32x16 SelectNan(F32x16 a, F32x16 yes, F32x16 no) {
  return {_mm512_mask_mov_ps(no.v, _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q), yes.v)};
}
MACH_INLINE F32x16 SelectRange(int64_t begin, int64_t end, F32x16 inside, F32x16 outside) {
  const auto mask = static_cast<__mmask16>(FirstLanes(end) & ~FirstLanes(begin));
  return {_mm512_mask_mov_ps(outside.v, mask, inside.v)};
}
MACH_INLINE F32x16 AddBitsShifted23(F32x16 a, F32x16 b) {
  const __m512i shifted = _mm512_slli_epi32(_mm512_castps_si512(b.v), 23);
  return {_mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a.v), shifted))};
}

MACH_INLINE uint32_t MaskBetween(F32x16 a, F32x16 low, F32x16 high) {
  const __mmask16 above = _mm512_cmp_ps_mask(a.v, low.v, _CMP_GE_OQ);
  return _mm512_mask_cmp_ps_mask(above, a.v, high.v, _CMP_LE_OQ);
}

struct U32x16 {
  __m512i v;
};

MACH_INLINE U32x16 SetInteger(uint32_t x) {
  return {_mm512_set1_epi32(static_cast<int32_t>(x))};
}
MACH_INLINE U32x16 LaneNumbers() {
  return {_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)};
}
MACH_INLINE U32x16 Add(U32x16 a, U32x16 b) {
  return {_mm512_add_epi32(a.v, b.v)};
}
MACH_INLINE U32x16 Mul(U32x16 a, U32x16 b) {
  return {_mm512_mullo_epi32(a.v, b.v)};
}
MACH_INLINE U32x16 Xor(U32x16 a, U32x16 b) {
  return {_mm512_xor_si512(a.v, b.v)};
}
template <int kBits>
MACH_INLINE U32x16 ShiftRight(U32x16 a) {
  return {_mm512_srli_epi32(a.v, kBits)};
}
MACH_INLINE U32x16 Bits(F32x16 a) {
  return {_mm512_castps_si512(a.v)};
}
MACH_INLINE F32x16 ToFloat(U32x16 a) {
  return {_mm512_cvtepi32_ps(a.v)};
}
MACH_INLINE U32x16 Truncate(F32x16 a) {
  return {_mm512_cvttps_epi32(a.v)};
}
MACH_INLINE void Store(U32x16 a, uint32_t* p) {
  _mm512_storeu_si512(p, a.v);
}
MACH_INLINE void StorePartial(U32x16 a, uint32_t* p, int64_t count) {
  _mm512_mask_storeu_epi32(p, FirstLanes(count), a.v);
}

MACH_INLINE F32x16 Load(const Bf16* p) {
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16))};
}
MACH_INLINE F32x16 Load(const F16* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
MACH_INLINE void Store(F32x16 a, Bf16* p) {
  const __m512i bits = _mm512_castps_si512(a.v);
  const __m512i high = _mm512_srli_epi32(bits, 16);
  const __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
  const __m512i bias = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
  const __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(bits, bias), 16);
  const __mmask16 nan = _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q);
  const __m512i out = _mm512_mask_or_epi32(rounded, nan, high, _mm512_set1_epi32(0x40));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(out));
}
MACH_INLINE void Store(F32x16 a, F16* p) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

MACH_INLINE float Reduce16(F32x16 a) {
  const __m256 high = _mm512_extractf32x8_ps(a.v, 1);
  const __m256 by8 = _mm256_add_ps(_mm512_castps512_ps256(a.v), high);
  const __m128 by4 = _mm_add_ps(_mm256_castps256_ps128(by8), _mm256_extractf128_ps(by8, 1));
  const __m128 by2 = _mm_add_ps(by4, _mm_movehl_ps(by4, by4));
  return _mm_cvtss_f32(_mm_add_ss(by2, _mm_movehdup_ps(by2)));
}
MACH_INLINE float Max16(F32x16 a) {
  const __m256 high = _mm512_extractf32x8_ps(a.v, 1);
  const __m256 by8 = _mm256_max_ps(_mm512_castps512_ps256(a.v), high);
  const __m128 by4 = _mm_max_ps(_mm256_castps256_ps128(by8), _mm256_extractf128_ps(by8, 1));
  const __m128 by2 = _mm_max_ps(by4, _mm_movehl_ps(by4, by4));
  return _mm_cvtss_f32(_mm_max_ss(by2, _mm_movehdup_ps(by2)));
}

}  // namespace mach::kernels::simd_avx512
