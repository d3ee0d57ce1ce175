#include "base/portable_math.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace mach {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// A number as the unevaluated sum of two doubles, |lo| at most half an ulp of hi.
struct Double2 {
  double hi;
  double lo;
};

// a + b exactly.
Double2 TwoSum(double a, double b) {
  const double sum = a + b;
  const double b_part = sum - a;
  return {sum, (a - (sum - b_part)) + (b - b_part)};
}

// a + b exactly where |a| >= |b| or a is 0.
Double2 FastTwoSum(double a, double b) {
  const double sum = a + b;
  return {sum, b - (sum - a)};
}

// The upper 26 bits of the significand, and what is left (Veltkamp). |a| below 2^996.
Double2 Split(double a) {
  const double c = 0x1.0000002p27 * a;
  const double hi = c - (c - a);
  return {hi, a - hi};
}

// a * b exactly (Dekker), where nothing overflows or becomes subnormal.
Double2 TwoProduct(double a, double b) {
  const Double2 x = Split(a);
  const Double2 y = Split(b);
  const double product = a * b;
  return {product, ((x.hi * y.hi - product) + x.hi * y.lo + x.lo * y.hi) + x.lo * y.lo};
}

// 1.5 * 2^52: added and subtracted, it rounds |x| < 2^51 to the nearest integer.
constexpr double kRound = 0x1.8p52;

double RoundToInteger(double x) {
  return (x + kRound) - kRound;
}

// c[0] + c[1] x + c[2] x^2 + ...
template <size_t n>
double Polynomial(const std::array<double, n>& c, double x) {
  double sum = c[n - 1];
  for (size_t i = n - 1; i > 0; --i) {
    sum = sum * x + c[i - 1];
  }
  return sum;
}

// sign^i / (first + i step)!
template <size_t n>
constexpr std::array<double, n> InverseFactorials(int first, int step, double sign) {
  std::array<double, n> c = {};
  double factorial = 1;  // exact up to 22!
  int k = 1;
  for (size_t i = 0; i < n; ++i) {
    for (; k <= first + static_cast<int>(i) * step; ++k) {
      factorial *= k;
    }
    c[i] = (i % 2 == 0 ? 1 : sign) / factorial;
  }
  return c;
}

// ln 2, the first part with 42 bits, so that its product with an exponent is exact.
constexpr double kLn2Hi = 0x1.62e42fefa38p-1;
constexpr double kLn2Lo = 0x1.ef35793c7673p-45;
constexpr double kLog2E = 0x1.71547652b82fep0;

// e^(hi + lo) for |hi| <= 746: n = round(hi / ln 2), r = hi + lo - n ln 2, |r| < 0.35, and the
// Taylor series of e^r (the term left out is below 2^-65), whose two leading terms are added
// exactly.
double ExpOf(Double2 x) {
  static constexpr auto kSeries = InverseFactorials<14>(2, 1, 1.0);
  const double n = RoundToInteger(x.hi * kLog2E);
  const Double2 wide = TwoSum(x.hi - n * kLn2Hi, -(n * kLn2Lo));
  const Double2 r = TwoSum(wide.hi, wide.lo + x.lo);
  const Double2 sum = FastTwoSum(1.0, r.hi);
  const double y =
      sum.hi + (sum.lo + (r.lo + r.hi * r.lo + r.hi * r.hi * Polynomial(kSeries, r.hi)));
  // 2^n in two exact factors: n alone may lie outside the exponents of a double.
  const auto exponent = static_cast<int64_t>(n);
  const int64_t half = exponent / 2;
  const auto power = [](int64_t e) {
    return std::bit_cast<double>(static_cast<uint64_t>(e + 1023) << 52);
  };
  return y * power(half) * power(exponent - half);
}

// log x for positive finite x: x = 2^k m with m in [sqrt(1/2), sqrt(2)), and
// log m = 2 atanh(s) = 2 (s + s^3/3 + s^5/5 + ...), s = (m - 1) / (m + 1), |s| < 0.172. s is taken
// to twice the precision; the term left out is below 2^-68 of the sum.
Double2 LogOf(double x) {
  static constexpr auto kSeries = [] {
    std::array<double, 12> c = {};
    for (size_t i = 0; i < c.size(); ++i) {
      c[i] = 2.0 / static_cast<double>(2 * i + 3);
    }
    return c;
  }();
  int64_t k = 0;
  if (x < 0x1p-1022) {
    x *= 0x1p54;
    k = -54;
  }
  // Subtracting the bits of sqrt(1/2) makes the exponent field that of 2^k.
  constexpr uint64_t kSqrtHalf = 0x3fe6a09e667f3bcd;
  const auto bits = std::bit_cast<uint64_t>(x);
  const auto shift = static_cast<int64_t>(bits - kSqrtHalf) >> 52;
  k += shift;
  const double m = std::bit_cast<double>(bits - (static_cast<uint64_t>(shift) << 52));

  const double f = m - 1;  // exact
  const Double2 g = TwoSum(m, 1.0);
  const double s = f / g.hi;
  const Double2 back = TwoProduct(s, g.hi);
  const double s_lo = (((f - back.hi) - back.lo) - s * g.lo) / g.hi;
  const double z = s * s;
  const double rest = 2 * s_lo + s * z * Polynomial(kSeries, z);
  const auto exponent = static_cast<double>(k);
  const Double2 whole = TwoSum(exponent * kLn2Hi, 2 * s);
  return FastTwoSum(whole.hi, whole.lo + (exponent * kLn2Lo + rest));
}

// x - n pi/2 for |n| < 2^31: pi/2 in four parts of 22 bits, whose products with n are exact, and a
// last one of 53. Each sum keeps what it rounds off, so the result has its full precision however
// near x is to a multiple of pi/2.
Double2 MinusQuarterTurns(double x, double n) {
  constexpr double kFirst = 0x1.921fb8p0;
  constexpr std::array kMiddle = {-0x1.5dde98p-23, 0x1.846988p-48, 0x1.8cc518p-72};
  constexpr double kLast = -0x1.fc8f8cbb5bf6cp-97;
  Double2 r = {x - n * kFirst, 0};
  for (const double part : kMiddle) {
    const Double2 sum = TwoSum(r.hi, -(n * part));
    r = {sum.hi, r.lo + sum.lo};
  }
  return FastTwoSum(r.hi, r.lo - n * kLast);
}

// sin and cos for |hi| <= pi/4 by their Taylor series (the terms left out are below 2^-65).
SinCos SinCosOf(Double2 r) {
  static constexpr auto kSin = InverseFactorials<9>(3, 2, -1.0);
  static constexpr auto kCos = InverseFactorials<8>(4, 2, -1.0);
  const double z = r.hi * r.hi;
  const double half = 0.5 * z;
  const double sin = r.hi + (r.lo * (1 - half) - r.hi * z * Polynomial(kSin, z));
  const Double2 head = FastTwoSum(1.0, -half);
  const double cos = head.hi + (head.lo + (z * z * Polynomial(kCos, z) - r.hi * r.lo));
  return {sin, cos};
}

}  // namespace

double PortableExp(double x) {
  if (!(std::abs(x) <= 746)) {  // NaN too
    return x > 0 ? kInfinity : x < 0 ? 0.0 : x;
  }
  return ExpOf({x, 0});
}

double PortableLog(double x) {
  if (x > 0 && x < kInfinity) {
    const Double2 log = LogOf(x);
    return log.hi + log.lo;
  }
  return x == 0 ? -kInfinity : x > 0 ? x : kNan;
}

double PortablePow(double base, double exponent) {
  if (!(base > 0 && base < kInfinity && std::abs(exponent) <= 1)) {
    return kNan;
  }
  const Double2 log = LogOf(base);
  const Double2 product = TwoProduct(log.hi, exponent);
  return ExpOf(FastTwoSum(product.hi, product.lo + log.lo * exponent));
}

SinCos PortableSinCos(double x) {
  if (!(std::abs(x) <= kMostRadians)) {
    return {kNan, kNan};
  }
  constexpr double kTwoOverPi = 0x1.45f306dc9c883p-1;
  const double n = RoundToInteger(x * kTwoOverPi);
  const SinCos part = SinCosOf(MinusQuarterTurns(x, n));
  switch (static_cast<uint64_t>(static_cast<int64_t>(n)) % 4) {
    case 0:
      return part;
    case 1:
      return {part.cos, -part.sin};
    case 2:
      return {-part.sin, -part.cos};
    default:
      return {-part.cos, part.sin};
  }
}

}  // namespace mach
