// F32x16 with AVX2, FMA and F16C: two registers. Included by vector_avx2.cc only; see simd-inl.h
// for what every variant provides.
#pragma once

#include <cstdint>

#include <immintrin.h>

#include "kernels/vector.h"

#define MACH_SIMD simd_avx2
#define MACH_INLINE inline __attribute__((always_inline))

namespace mach::kernels::simd_avx2 {

// 16 registers: 6 rows x 1 vector (two registers) of accumulators.
inline constexpr int kScoreRows = 6;
inline constexpr int kScoreVectors = 1;
inline constexpr int kValueRows = 6;
inline constexpr int kValueVectors = 1;
inline constexpr int kDeltaVectors = 2;

struct F32x16 {
  __m256 lo;
  __m256 hi;
};

// All bits in the lanes below `count`, which may lie outside 0..8.
MACH_INLINE __m256i FirstLanes(int64_t count) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int32_t>(count)), lane);
}

MACH_INLINE F32x16 Set1(float x) {
  return {_mm256_set1_ps(x), _mm256_set1_ps(x)};
}
MACH_INLINE F32x16 Load(const float* p) {
  return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
MACH_INLINE F32x16 LoadPartial(const float* p, int64_t count) {
  return {_mm256_maskload_ps(p, FirstLanes(count)),
          _mm256_maskload_ps(p + 8, FirstLanes(count - 8))};
}
MACH_INLINE void Store(F32x16 a, float* p) {
  _mm256_storeu_ps(p, a.lo);
  _mm256_storeu_ps(p + 8, a.hi);
}
MACH_INLINE void StorePartial(F32x16 a, float* p, int64_t count) {
  _mm256_maskstore_ps(p, FirstLanes(count), a.lo);
  _mm256_maskstore_ps(p + 8, FirstLanes(count - 8), a.hi);
}

MACH_INLINE void StoreStream(F32x16 a, float* p) {
  _mm256_stream_ps(p, a.lo);
  _mm256_stream_ps(p + 8, a.hi);
}
MACH_INLINE void StreamFence() {
  _mm_sfence();
}

MACH_INLINE F32x16 Add(F32x16 a, F32x16 b) {
  return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
}
MACH_INLINE F32x16 Sub(F32x16 a, F32x16 b) {
  return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
}
MACH_INLINE F32x16 Mul(F32x16 a, F32x16 b) {
  return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
}
MACH_INLINE F32x16 Div(F32x16 a, F32x16 b) {
  return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)};
}
MACH_INLINE F32x16 Fma(F32x16 a, F32x16 b, F32x16 c) {
  return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
MACH_INLINE F32x16 Max(F32x16 a, F32x16 b) {
  return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)};
}

MACH_INLINE F32x16 SelectLess(F32x16 a, F32x16 b, F32x16 yes, F32x16 no) {
  return {_mm256_blendv_ps(no.lo, yes.lo, _mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ)),
          _mm256_blendv_ps(no.hi, yes.hi, _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ))};
}
MACH_INLINE F32x16 SelectNan(F32x16 a, F32x16 yes, F32x16 no) {
  return {_mm256_blendv_ps(no.lo, yes.lo, _mm256_cmp_ps(a.lo, a.lo, _CMP_UNORD_Q)),
          _mm256_blendv_ps(no.hi, yes.hi, _mm256_cmp_ps(a.hi, a.hi, _CMP_UNORD_Q))};
}
MACH_INLINE F32x16 SelectRange(int64_t begin, int64_t end, F32x16 inside, F32x16 outside) {
  const __m256i lo = _mm256_andnot_si256(FirstLanes(begin), FirstLanes(end));
  const __m256i hi = _mm256_andnot_si256(FirstLanes(begin - 8), FirstLanes(end - 8));
  return {_mm256_blendv_ps(outside.lo, inside.lo, _mm256_castsi256_ps(lo)),
          _mm256_blendv_ps(outside.hi, inside.hi, _mm256_castsi256_ps(hi))};
}
MACH_INLINE __m256 AddBitsShifted23(__m256 a, __m256 b) {
  const __m256i shifted = _mm256_slli_epi32(_mm256_castps_si256(b), 23);
  return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a), shifted));
}
MACH_INLINE F32x16 AddBitsShifted23(F32x16 a, F32x16 b) {
  return {AddBitsShifted23(a.lo, b.lo), AddBitsShifted23(a.hi, b.hi)};
}

MACH_INLINE uint32_t MaskBetween(__m256 a, __m256 low, __m256 high) {
  const __m256 inside =
      _mm256_and_ps(_mm256_cmp_ps(a, low, _CMP_GE_OQ), _mm256_cmp_ps(a, high, _CMP_LE_OQ));
  return static_cast<uint32_t>(_mm256_movemask_ps(inside));
}
MACH_INLINE uint32_t MaskBetween(F32x16 a, F32x16 low, F32x16 high) {
  return MaskBetween(a.lo, low.lo, high.lo) | MaskBetween(a.hi, low.hi, high.hi) << 8;
}

struct U32x16 {
  __m256i lo;
  __m256i hi;
};

MACH_INLINE U32x16 SetInteger(uint32_t x) {
  const __m256i v = _mm256_set1_epi32(static_cast<int32_t>(x));
  return {v, v};
}
MACH_INLINE U32x16 LaneNumbers() {
  return {_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
          _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15)};
}
MACH_INLINE U32x16 Add(U32x16 a, U32x16 b) {
  return {_mm256_add_epi32(a.lo, b.lo), _mm256_add_epi32(a.hi, b.hi)};
}
MACH_INLINE U32x16 Mul(U32x16 a, U32x16 b) {
  return {_mm256_mullo_epi32(a.lo, b.lo), _mm256_mullo_epi32(a.hi, b.hi)};
}
MACH_INLINE U32x16 Xor(U32x16 a, U32x16 b) {
  return {_mm256_xor_si256(a.lo, b.lo), _mm256_xor_si256(a.hi, b.hi)};
}
template <int kBits>
MACH_INLINE U32x16 ShiftRight(U32x16 a) {
  return {_mm256_srli_epi32(a.lo, kBits), _mm256_srli_epi32(a.hi, kBits)};
}
MACH_INLINE U32x16 Bits(F32x16 a) {
  return {_mm256_castps_si256(a.lo), _mm256_castps_si256(a.hi)};
}
MACH_INLINE F32x16 ToFloat(U32x16 a) {
  return {_mm256_cvtepi32_ps(a.lo), _mm256_cvtepi32_ps(a.hi)};
}
MACH_INLINE U32x16 Truncate(F32x16 a) {
  return {_mm256_cvttps_epi32(a.lo), _mm256_cvttps_epi32(a.hi)};
}
MACH_INLINE void Store(U32x16 a, uint32_t* p) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a.lo);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 8), a.hi);
}
MACH_INLINE void StorePartial(U32x16 a, uint32_t* p, int64_t count) {
  _mm256_maskstore_epi32(reinterpret_cast<int*>(p), FirstLanes(count), a.lo);
  _mm256_maskstore_epi32(reinterpret_cast<int*>(p) + 8, FirstLanes(count - 8), a.hi);
}

MACH_INLINE __m256 LoadBf16x8(const Bf16* p) {
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}
MACH_INLINE F32x16 Load(const Bf16* p) {
  return {LoadBf16x8(p), LoadBf16x8(p + 8)};
}
MACH_INLINE F32x16 Load(const F16* p) {
  return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))),
          _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 8)))};
}
MACH_INLINE __m256i RoundBf16x8(__m256 a) {
  const __m256i bits = _mm256_castps_si256(a);
  const __m256i high = _mm256_srli_epi32(bits, 16);
  const __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
  const __m256i bias = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
  const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, bias), 16);
  const __m256i quiet = _mm256_or_si256(high, _mm256_set1_epi32(0x40));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));
  return _mm256_blendv_epi8(rounded, quiet, nan);
}
MACH_INLINE void Store(F32x16 a, Bf16* p) {
  const __m256i packed = _mm256_packus_epi32(RoundBf16x8(a.lo), RoundBf16x8(a.hi));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(packed, 0xd8));
}
MACH_INLINE void Store(F32x16 a, F16* p) {
  constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(a.lo, kNearest));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 8), _mm256_cvtps_ph(a.hi, kNearest));
}

MACH_INLINE float Reduce16(F32x16 a) {
  const __m256 by8 = _mm256_add_ps(a.lo, a.hi);
  const __m128 by4 = _mm_add_ps(_mm256_castps256_ps128(by8), _mm256_extractf128_ps(by8, 1));
  const __m128 by2 = _mm_add_ps(by4, _mm_movehl_ps(by4, by4));
  return _mm_cvtss_f32(_mm_add_ss(by2, _mm_movehdup_ps(by2)));
}
MACH_INLINE float Max16(F32x16 a) {
  const __m256 by8 = _mm256_max_ps(a.lo, a.hi);
  const __m128 by4 = _mm_max_ps(_mm256_castps256_ps128(by8), _mm256_extractf128_ps(by8, 1));
  const __m128 by2 = _mm_max_ps(by4, _mm_movehl_ps(by4, by4));
  return _mm_cvtss_f32(_mm_max_ss(by2, _mm_movehdup_ps(by2)));
}

}  // namespace mach::kernels::simd_avx2
