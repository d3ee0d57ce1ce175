// Arithmetic over F32x16, sixteen fp32 lanes, written once for all instruction sets.
//
// Include one of simd_scalar.h, simd_avx2.h, simd_avx512.h, simd_neon.h first. Each provides, in a
// namespace of its own (MACH_SIMD) so that no function compiled for one processor is ever linked
// into code for another:
//   Set1, Load and Store (fp32, Bf16, F16; 16-bit stores round to nearest even), LoadPartial (lanes
//   beyond count are zero), StorePartial; StoreStream (a Store to 64-byte aligned memory that is
//   not read again soon) and the StreamFence that ends a run of them; Add, Sub, Mul, Div, Fma:
//   correctly rounded, subnormals kept; Max(a, b) = a > b ? a : b; SelectLess(a, b, yes, no) = a <
//   b ? yes : no; SelectNan; SelectRange (lanes in [begin, end), bounds within 0..16);
//   AddBitsShifted23 (integer bits(a) + (bits(b) << 23)); Reduce16 and Max16: lanes i and i + 8,
//   then 4, 2, 1;
//   MaskBetween (bit i where low <= a <= high in lane i);
//   and for U32x16, sixteen unsigned integers: SetInteger, LaneNumbers (0 to 15), Add, Mul (both
//   modulo 2^32), Xor, ShiftRight<bits>, Bits (of an F32x16), ToFloat (of integers below 2^31, to
//   nearest), Truncate (to integers, from 0 to below 2^31), Store, StorePartial.
// NaN results are NaN in every set, their payloads are not defined.
//
// For the same reason nothing here or in the files above may call inline functions of the standard
// library or of other modules; simd_scalar.h, compiled for the base processor, may.

namespace mach::kernels::MACH_SIMD {

MACH_INLINE F32x16 Zero() {
  return Set1(0.0F);
}

// exp(x) within 1 ulp for results in the normal range: n = round(x / ln 2) by adding 1.5 * 2^23,
// r = x - n ln 2 in two steps, a polynomial of degree 6 in r (relative error 2^-28, fitted by
// reweighted least squares), times 2^n. Results below 2^-126 are 0, above FLT_MAX infinity; NaN
// stays NaN; Exp(0) is 1 exactly.
MACH_INLINE F32x16 Exp(F32x16 x) {
  const F32x16 magic = Set1(0x1.8p23F);
  const F32x16 shifted = Fma(x, Set1(0x1.715476p0F), magic);
  const F32x16 n = Sub(shifted, magic);
  F32x16 r = Fma(n, Set1(-0x1.62e43p-1F), x);
  r = Fma(n, Set1(0x1.05c61p-29F), r);
  F32x16 p = Set1(0x1.6a2352p-10F);
  p = Fma(p, r, Set1(0x1.123a6cp-7F));
  p = Fma(p, r, Set1(0x1.5558f4p-5F));
  p = Fma(p, r, Set1(0x1.55549p-3F));
  p = Fma(p, r, Set1(0x1.fffffcp-2F));
  p = Fma(p, r, Set1(1.0F));
  p = Fma(p, r, Set1(1.0F));
  // The low bits of `shifted` hold n; inside the limits below the exponent field cannot overflow.
  F32x16 y = AddBitsShifted23(p, shifted);
  y = SelectLess(x, Set1(-0x1.5d589ep6F), Zero(), y);
  y = SelectLess(Set1(0x1.62e42ep6F), x, Set1(__builtin_inff()), y);
  return SelectNan(x, x, y);
}

}  // namespace mach::kernels::MACH_SIMD
