// F32x16 with 64-bit Arm NEON: four registers. Included by vector_neon.cc only; see simd-inl.h for
// what every variant provides.
#pragma once

#include <cstdint>

#include <arm_neon.h>

#include "kernels/vector.h"

#define MACH_SIMD simd_neon
#define MACH_INLINE inline __attribute__((always_inline))

namespace mach::kernels::simd_neon {

// 32 registers: 6 rows x 1 vector (four registers) of accumulators.
inline constexpr int kScoreRows = 6;
inline constexpr int kScoreVectors = 1;
inline constexpr int kValueRows = 6;
inline constexpr int kValueVectors = 1;
inline constexpr int kDeltaVectors = 1;

struct F32x16 {
  float32x4_t a;  // lanes 0..3
  float32x4_t b;
  float32x4_t c;
  float32x4_t d;
};

MACH_INLINE F32x16 Set1(float x) {
  const float32x4_t v = vdupq_n_f32(x);
  return {v, v, v, v};
}
MACH_INLINE F32x16 Load(const float* p) {
  return {vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)};
}
MACH_INLINE void Store(F32x16 x, float* p) {
  vst1q_f32(p, x.a);
  vst1q_f32(p + 4, x.b);
  vst1q_f32(p + 8, x.c);
  vst1q_f32(p + 12, x.d);
}
MACH_INLINE F32x16 LoadPartial(const float* p, int64_t count) {
  float lanes[16] = {};
  for (int64_t i = 0; i < count; ++i) {
    lanes[i] = p[i];
  }
  return Load(lanes);
}
MACH_INLINE void StorePartial(F32x16 x, float* p, int64_t count) {
  float lanes[16];
  Store(x, lanes);
  for (int64_t i = 0; i < count; ++i) {
    p[i] = lanes[i];
  }
}

// Arm has no hint of this kind that pays for its weaker ordering.
MACH_INLINE void StoreStream(F32x16 x, float* p) {
  Store(x, p);
}
MACH_INLINE void StreamFence() {}

MACH_INLINE F32x16 Add(F32x16 x, F32x16 y) {
  return {vaddq_f32(x.a, y.a), vaddq_f32(x.b, y.b), vaddq_f32(x.c, y.c), vaddq_f32(x.d, y.d)};
}
MACH_INLINE F32x16 Sub(F32x16 x, F32x16 y) {
  return {vsubq_f32(x.a, y.a), vsubq_f32(x.b, y.b), vsubq_f32(x.c, y.c), vsubq_f32(x.d, y.d)};
}
MACH_INLINE F32x16 Mul(F32x16 x, F32x16 y) {
  return {vmulq_f32(x.a, y.a), vmulq_f32(x.b, y.b), vmulq_f32(x.c, y.c), vmulq_f32(x.d, y.d)};
}
MACH_INLINE F32x16 Div(F32x16 x, F32x16 y) {
  return {vdivq_f32(x.a, y.a), vdivq_f32(x.b, y.b), vdivq_f32(x.c, y.c), vdivq_f32(x.d, y.d)};
}
MACH_INLINE F32x16 Fma(F32x16 x, F32x16 y, F32x16 z) {
  return {vfmaq_f32(z.a, x.a, y.a), vfmaq_f32(z.b, x.b, y.b), vfmaq_f32(z.c, x.c, y.c),
          vfmaq_f32(z.d, x.d, y.d)};
}

// yes where x < y. The Arm maximum would propagate NaN, so Max is a comparison too.
MACH_INLINE float32x4_t SelectLess(float32x4_t x, float32x4_t y, float32x4_t yes, float32x4_t no) {
  return vbslq_f32(vcltq_f32(x, y), yes, no);
}
MACH_INLINE F32x16 SelectLess(F32x16 x, F32x16 y, F32x16 yes, F32x16 no) {
  return {SelectLess(x.a, y.a, yes.a, no.a), SelectLess(x.b, y.b, yes.b, no.b),
          SelectLess(x.c, y.c, yes.c, no.c), SelectLess(x.d, y.d, yes.d, no.d)};
}
MACH_INLINE float32x4_t Max(float32x4_t x, float32x4_t y) {
  return SelectLess(y, x, x, y);
}
MACH_INLINE F32x16 Max(F32x16 x, F32x16 y) {
  return SelectLess(y, x, x, y);
}
MACH_INLINE F32x16 SelectNan(F32x16 x, F32x16 yes, F32x16 no) {
  return {vbslq_f32(vceqq_f32(x.a, x.a), no.a, yes.a), vbslq_f32(vceqq_f32(x.b, x.b), no.b, yes.b),
          vbslq_f32(vceqq_f32(x.c, x.c), no.c, yes.c), vbslq_f32(vceqq_f32(x.d, x.d), no.d, yes.d)};
}
MACH_INLINE float32x4_t SelectRange(int32x4_t lane, int64_t begin, int64_t end, float32x4_t inside,
                                    float32x4_t outside) {
  const uint32x4_t from = vcgeq_s32(lane, vdupq_n_s32(static_cast<int32_t>(begin)));
  const uint32x4_t below = vcltq_s32(lane, vdupq_n_s32(static_cast<int32_t>(end)));
  return vbslq_f32(vandq_u32(from, below), inside, outside);
}
MACH_INLINE F32x16 SelectRange(int64_t begin, int64_t end, F32x16 inside, F32x16 outside) {
  const int32_t first[4] = {0, 1, 2, 3};
  const int32x4_t lane = vld1q_s32(first);
  return {SelectRange(lane, begin, end, inside.a, outside.a),
          SelectRange(lane, begin - 4, end - 4, inside.b, outside.b),
          SelectRange(lane, begin - 8, end - 8, inside.c, outside.c),
          SelectRange(lane, begin - 12, end - 12, inside.d, outside.d)};
}
MACH_INLINE float32x4_t AddBitsShifted23(float32x4_t x, float32x4_t y) {
  const uint32x4_t shifted = vshlq_n_u32(vreinterpretq_u32_f32(y), 23);
  return vreinterpretq_f32_u32(vaddq_u32(vreinterpretq_u32_f32(x), shifted));
}
MACH_INLINE F32x16 AddBitsShifted23(F32x16 x, F32x16 y) {
  return {AddBitsShifted23(x.a, y.a), AddBitsShifted23(x.b, y.b), AddBitsShifted23(x.c, y.c),
          AddBitsShifted23(x.d, y.d)};
}

MACH_INLINE uint32_t MaskBetween(float32x4_t x, float32x4_t low, float32x4_t high) {
  const uint32_t bits[4] = {1, 2, 4, 8};
  const uint32x4_t inside = vandq_u32(vcgeq_f32(x, low), vcleq_f32(x, high));
  return vaddvq_u32(vandq_u32(inside, vld1q_u32(bits)));
}
MACH_INLINE uint32_t MaskBetween(F32x16 x, F32x16 low, F32x16 high) {
  return MaskBetween(x.a, low.a, high.a) | MaskBetween(x.b, low.b, high.b) << 4 |
         MaskBetween(x.c, low.c, high.c) << 8 | MaskBetween(x.d, low.d, high.d) << 12;
}

struct U32x16 {
  uint32x4_t a;  // lanes 0..3
  uint32x4_t b;
  uint32x4_t c;
  uint32x4_t d;
};

MACH_INLINE U32x16 SetInteger(uint32_t x) {
  const uint32x4_t v = vdupq_n_u32(x);
  return {v, v, v, v};
}
MACH_INLINE U32x16 LaneNumbers() {
  const uint32_t lanes[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  return {vld1q_u32(lanes), vld1q_u32(lanes + 4), vld1q_u32(lanes + 8), vld1q_u32(lanes + 12)};
}
MACH_INLINE U32x16 Add(U32x16 x, U32x16 y) {
  return {vaddq_u32(x.a, y.a), vaddq_u32(x.b, y.b), vaddq_u32(x.c, y.c), vaddq_u32(x.d, y.d)};
}
MACH_INLINE U32x16 Mul(U32x16 x, U32x16 y) {
  return {vmulq_u32(x.a, y.a), vmulq_u32(x.b, y.b), vmulq_u32(x.c, y.c), vmulq_u32(x.d, y.d)};
}
MACH_INLINE U32x16 Xor(U32x16 x, U32x16 y) {
  return {veorq_u32(x.a, y.a), veorq_u32(x.b, y.b), veorq_u32(x.c, y.c), veorq_u32(x.d, y.d)};
}
template <int kBits>
MACH_INLINE U32x16 ShiftRight(U32x16 x) {
  return {vshrq_n_u32(x.a, kBits), vshrq_n_u32(x.b, kBits), vshrq_n_u32(x.c, kBits),
          vshrq_n_u32(x.d, kBits)};
}
MACH_INLINE U32x16 Bits(F32x16 x) {
  return {vreinterpretq_u32_f32(x.a), vreinterpretq_u32_f32(x.b), vreinterpretq_u32_f32(x.c),
          vreinterpretq_u32_f32(x.d)};
}
MACH_INLINE float32x4_t ToFloat(uint32x4_t x) {
  return vcvtq_f32_s32(vreinterpretq_s32_u32(x));
}
MACH_INLINE F32x16 ToFloat(U32x16 x) {
  return {ToFloat(x.a), ToFloat(x.b), ToFloat(x.c), ToFloat(x.d)};
}
MACH_INLINE uint32x4_t Truncate(float32x4_t x) {
  return vreinterpretq_u32_s32(vcvtq_s32_f32(x));
}
MACH_INLINE U32x16 Truncate(F32x16 x) {
  return {Truncate(x.a), Truncate(x.b), Truncate(x.c), Truncate(x.d)};
}
MACH_INLINE void Store(U32x16 x, uint32_t* p) {
  vst1q_u32(p, x.a);
  vst1q_u32(p + 4, x.b);
  vst1q_u32(p + 8, x.c);
  vst1q_u32(p + 12, x.d);
}
MACH_INLINE void StorePartial(U32x16 x, uint32_t* p, int64_t count) {
  uint32_t lanes[16];
  Store(x, lanes);
  for (int64_t i = 0; i < count; ++i) {
    p[i] = lanes[i];
  }
}

MACH_INLINE float32x4_t LoadBf16x4(const Bf16* p) {
  const uint16x4_t bits = vld1_u16(reinterpret_cast<const uint16_t*>(p));
  return vreinterpretq_f32_u32(vshll_n_u16(bits, 16));
}
MACH_INLINE F32x16 Load(const Bf16* p) {
  return {LoadBf16x4(p), LoadBf16x4(p + 4), LoadBf16x4(p + 8), LoadBf16x4(p + 12)};
}
MACH_INLINE float32x4_t LoadF16x4(const F16* p) {
  return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(reinterpret_cast<const uint16_t*>(p))));
}
MACH_INLINE F32x16 Load(const F16* p) {
  return {LoadF16x4(p), LoadF16x4(p + 4), LoadF16x4(p + 8), LoadF16x4(p + 12)};
}
MACH_INLINE void StoreBf16x4(float32x4_t x, Bf16* p) {
  const uint32x4_t bits = vreinterpretq_u32_f32(x);
  const uint32x4_t high = vshrq_n_u32(bits, 16);
  const uint32x4_t odd = vandq_u32(high, vdupq_n_u32(1));
  const uint32x4_t bias = vaddq_u32(odd, vdupq_n_u32(0x7fff));
  const uint32x4_t rounded = vshrq_n_u32(vaddq_u32(bits, bias), 16);
  const uint32x4_t quiet = vorrq_u32(high, vdupq_n_u32(0x40));
  const uint32x4_t out = vbslq_u32(vceqq_f32(x, x), rounded, quiet);
  vst1_u16(reinterpret_cast<uint16_t*>(p), vmovn_u32(out));
}
MACH_INLINE void Store(F32x16 x, Bf16* p) {
  StoreBf16x4(x.a, p);
  StoreBf16x4(x.b, p + 4);
  StoreBf16x4(x.c, p + 8);
  StoreBf16x4(x.d, p + 12);
}
MACH_INLINE void StoreF16x4(float32x4_t x, F16* p) {
  vst1_u16(reinterpret_cast<uint16_t*>(p), vreinterpret_u16_f16(vcvt_f16_f32(x)));
}
MACH_INLINE void Store(F32x16 x, F16* p) {
  StoreF16x4(x.a, p);
  StoreF16x4(x.b, p + 4);
  StoreF16x4(x.c, p + 8);
  StoreF16x4(x.d, p + 12);
}

MACH_INLINE float Reduce16(F32x16 x) {
  const float32x4_t by8_low = vaddq_f32(x.a, x.c);
  const float32x4_t by8_high = vaddq_f32(x.b, x.d);
  const float32x4_t by4 = vaddq_f32(by8_low, by8_high);
  const float32x2_t by2 = vadd_f32(vget_low_f32(by4), vget_high_f32(by4));
  return vget_lane_f32(by2, 0) + vget_lane_f32(by2, 1);
}
MACH_INLINE float Max16(F32x16 x) {
  const float32x4_t by4 = Max(Max(x.a, x.c), Max(x.b, x.d));
  const float32x4_t by2 = Max(by4, vextq_f32(by4, by4, 2));
  return vgetq_lane_f32(Max(by2, vextq_f32(by2, by2, 1)), 0);
}

}  // namespace mach::kernels::simd_neon
