// The portable functions against exact values (portable_math.txt, by tools/make_math_table.py) and,
// densely, against the C library's in extended precision.
#include "base/portable_math.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <map>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace mach {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

// What portable_math.h promises, in ulp of the exact value.
const std::map<std::string, double> kBounds = {
    {"exp", 0.7}, {"log", 0.6}, {"pow", 0.7}, {"sin", 0.8}, {"cos", 0.8}};

double Apply(const std::string& function, const std::vector<double>& x) {
  if (function == "exp") {
    return PortableExp(x.at(0));
  }
  if (function == "log") {
    return PortableLog(x.at(0));
  }
  if (function == "pow") {
    return PortablePow(x.at(0), x.at(1));
  }
  const SinCos both = PortableSinCos(x.at(0));
  return function == "sin" ? both.sin : both.cos;
}

// Doubles near `value` are this far apart.
double UlpOf(double value) {
  const double magnitude = std::max(std::abs(value), std::numeric_limits<double>::min());
  return std::ldexp(1.0, std::ilogb(magnitude) - 52);
}

TEST(PortableMath, StaysWithinItsBoundsOfExactValues) {
  std::ifstream table(std::string(MACH_SOURCE_DIR) + "/tests/base/portable_math.txt");
  std::map<std::string, int> checked;
  for (std::string line; std::getline(table, line);) {
    std::istringstream words(line);
    std::string function;
    words >> function;
    if (function == "#") {
      continue;
    }
    std::vector<double> numbers;
    for (std::string word; words >> word;) {
      numbers.push_back(std::strtod(word.c_str(), nullptr));
    }
    const double left = numbers.back();
    numbers.pop_back();
    const double want = numbers.back();
    numbers.pop_back();
    const double got = Apply(function, numbers);
    ++checked[function];
    if (std::isinf(want)) {
      EXPECT_EQ(got, want) << line;
      continue;
    }
    // Of a subnormal result half a unit is rounding alone, and `left` has no room for its digits.
    const double slack = std::abs(want) < std::numeric_limits<double>::min() ? 0.5 : 0;
    EXPECT_LE(std::abs((got - want) - left) / UlpOf(want), kBounds.at(function) + slack)
        << line << "\ngives " << got;
  }
  for (const auto& [function, unused] : kBounds) {
    EXPECT_GE(checked[function], 100) << function;
  }
}

// One function over random arguments: the largest error in ulp, and how many results differ from
// the exact one once they are rounded to fp32.
struct Sweep {
  double worst = 0;
  double worst_at = 0;
  int64_t other_floats = 0;

  void See(double x, double got, long double exact) {
    const long double error = std::abs(static_cast<long double>(got) - exact);
    const auto ulps = static_cast<double>(error / UlpOf(static_cast<double>(exact)));
    if (!(ulps <= worst)) {
      worst = ulps;
      worst_at = x;
    }
    other_floats += static_cast<float>(got) != static_cast<float>(exact) ? 1 : 0;
  }
};

TEST(PortableMath, StaysWithinItsBoundsOverRandomArguments) {
  if (std::numeric_limits<long double>::digits <= std::numeric_limits<double>::digits) {
    GTEST_SKIP() << "long double is no wider than double here";
  }
  constexpr int kArguments = 200000;
  std::mt19937_64 random(20251);
  std::uniform_real_distribution<double> uniform(-1, 1);
  std::map<std::string, Sweep> sweeps;
  for (int i = 0; i < kArguments; ++i) {
    const double u = uniform(random);
    for (const double x : {u, 708 * u}) {
      sweeps["exp"].See(x, PortableExp(x), std::exp(static_cast<long double>(x)));
    }
    for (const double x : {1 + u / 2, std::exp2(1022 * u)}) {
      sweeps["log"].See(x, PortableLog(x), std::log(static_cast<long double>(x)));
    }
    // Rotary frequencies: bases from 1 to 1e12, exponents from -1 to 0.
    const double base = std::pow(10.0, 6 + 6 * uniform(random));
    const double exponent = (u - 1) / 2;
    sweeps["pow"].See(base, PortablePow(base, exponent),
                      std::pow(static_cast<long double>(base), static_cast<long double>(exponent)));
    // Angles: positions up to some millions at any frequency, small ones, and the whole domain.
    for (const double x : {std::exp2(11 + 12 * u), 8 * u, kMostRadians * u}) {
      const SinCos got = PortableSinCos(x);
      sweeps["sin"].See(x, got.sin, std::sin(static_cast<long double>(x)));
      sweeps["cos"].See(x, got.cos, std::cos(static_cast<long double>(x)));
    }
  }
  for (const auto& [function, bound] : kBounds) {
    const Sweep& sweep = sweeps[function];
    EXPECT_LE(sweep.worst, bound) << function << " of " << sweep.worst_at;
    // A result this near to an exact one rounds otherwise once in some 10^8 arguments.
    EXPECT_EQ(sweep.other_floats, 0) << function;
    RecordProperty(function + "_worst_ulp", std::to_string(sweep.worst));
  }
}

TEST(PortableMath, SpecialArguments) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(PortableExp(kInf), kInf);
  EXPECT_EQ(PortableExp(1000), kInf);
  EXPECT_EQ(PortableExp(-kInf), 0);
  EXPECT_EQ(PortableExp(-1000), 0);
  EXPECT_EQ(PortableExp(-0.0), 1);
  EXPECT_TRUE(std::isnan(PortableExp(nan)));
  EXPECT_EQ(PortableLog(0), -kInf);
  EXPECT_EQ(PortableLog(-0.0), -kInf);
  EXPECT_EQ(PortableLog(kInf), kInf);
  EXPECT_TRUE(std::isnan(PortableLog(-1)));
  EXPECT_TRUE(std::isnan(PortableLog(nan)));
  EXPECT_EQ(PortablePow(10000, 0), 1);
  EXPECT_EQ(PortablePow(10000, -1), 1e-4);
  EXPECT_EQ(PortablePow(1, -0.3), 1);
  for (const double base : {0.0, -2.0, kInf, nan}) {
    EXPECT_TRUE(std::isnan(PortablePow(base, 0.5))) << base;
  }
  EXPECT_TRUE(std::isnan(PortablePow(2, 1.5)));
  EXPECT_TRUE(std::isnan(PortablePow(2, nan)));
  for (const double x : {std::nextafter(kMostRadians, kInf), -kInf, nan}) {
    EXPECT_TRUE(std::isnan(PortableSinCos(x).sin)) << x;
    EXPECT_TRUE(std::isnan(PortableSinCos(x).cos)) << x;
  }
}

// Whatever compiler and processor: these bits. A change of any is a change of what models answer.
TEST(PortableMath, GivesTheseBits) {
  uint64_t sum = 0;
  const auto add = [&](double x) {
    sum = sum * 0x9e3779b97f4a7c15ULL + std::bit_cast<uint64_t>(x);
  };
  for (int i = 1; i <= 100000; ++i) {
    const double x = i * 0.37;
    add(PortableExp(x / 60 - 300));
    add(PortableLog(x));
    add(PortablePow(x, -i * 1e-5));
    add(PortableSinCos(x * i).sin);
    add(PortableSinCos(x * i).cos);
  }
  EXPECT_EQ(sum, 16322442877017893259ULL);
}

}  // namespace
}  // namespace mach
