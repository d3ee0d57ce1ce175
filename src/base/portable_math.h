// exp, log, power, sine and cosine in double precision, the same bits wherever they run.
//
// A C library picks variants of these by processor, and its versions differ, so nothing whose
// result reaches a token may come from it. These are IEEE double operations in a fixed order,
// without fused ones, which are slow where the processor lacks them. Results are not always
// correctly rounded: each function states its bound, and tests hold it against exact values. Not
// for kernels, which have fp32 functions of their own (kernels/simd-inl.h). Pure functions; any
// thread.
#pragma once

namespace mach {

// e^x within 0.7 ulp; where the result is subnormal, within 1.2 of its units. Infinity or 0 beyond
// the range of a double; NaN stays NaN.
double PortableExp(double x);

// The natural logarithm within 0.6 ulp. -infinity for 0, NaN below 0.
double PortableLog(double x);

// base^exponent within 0.7 ulp for positive finite bases and |exponent| <= 1; NaN for others.
double PortablePow(double base, double exponent);

struct SinCos {
  double sin;
  double cos;
};

// The largest |x| that PortableSinCos takes: 2^31 radians.
inline constexpr double kMostRadians = 0x1p31;

// Both within 0.8 ulp for |x| <= kMostRadians; NaN beyond.
SinCos PortableSinCos(double x);

}  // namespace mach
