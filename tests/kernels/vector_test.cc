// The row kernels and Exp: every instruction set against scalar bit for bit, scalar against double
// precision.
#include "kernels/vector.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "platform/cpu.h"
#include "tests/kernels/kernel_test_util.h"

namespace mach::kernels {
namespace {

constexpr uint32_t kSeed = 7041776;

// All floats from below the smallest normal result to beyond overflow would be 2 * 10^9 values;
// every 97th bit pattern of both signs covers each binade densely.
TEST(ExpTest, WithinOneUlpAndEqualOverTheFullRange) {
  constexpr uint32_t kStep = 97;
  constexpr int64_t kChunk = 4096;
  std::vector<float> x(kChunk);
  std::vector<float> want(kChunk);
  std::vector<float> got(kChunk);
  int64_t worst = 0;
  uint64_t bits = 0;
  while (bits <= 0xffffffffU) {
    for (float& value : x) {
      value = std::bit_cast<float>(static_cast<uint32_t>(bits));
      bits += kStep;
    }
    kVectorScalar.exp(x.data(), kChunk, want.data());
    for (const Isa isa : SupportedIsas()) {
      VectorKernels(isa).exp(x.data(), kChunk, got.data());
      ExpectSame(got, want, std::string(IsaName(isa)));
    }
    for (size_t i = 0; i < x.size(); ++i) {
      const double exact = std::exp(static_cast<double>(x[i]));
      const auto rounded = static_cast<float>(exact);
      if (std::isnan(x[i])) {
        ASSERT_TRUE(std::isnan(want[i]));
      } else if (exact < 0x1p-126) {
        ASSERT_EQ(std::bit_cast<uint32_t>(want[i]), 0U) << x[i];
      } else {
        worst = std::max(worst, Ulps(want[i], rounded));
        ASSERT_LE(worst, 1) << x[i] << " gives " << want[i] << ", expected " << rounded;
      }
    }
  }
  EXPECT_EQ(worst, 1);
}

TEST(ExpTest, SpecialValues) {
  const std::vector<float> x = {0.0F,        -0.0F,        kInfinity,    -kInfinity,
                                kNan,        -1e30F,       1e30F,        88.7228317F,
                                88.7228394F, -87.3365402F, -87.3365479F, 1e-45F};
  for (const Isa isa : SupportedIsas()) {
    std::vector<float> y(x.size());
    VectorKernels(isa).exp(x.data(), static_cast<int64_t>(x.size()), y.data());
    EXPECT_EQ(y[0], 1.0F);
    EXPECT_EQ(y[1], 1.0F);
    EXPECT_EQ(y[2], kInfinity);
    EXPECT_EQ(std::bit_cast<uint32_t>(y[3]), 0U);
    EXPECT_TRUE(std::isnan(y[4]));
    EXPECT_EQ(std::bit_cast<uint32_t>(y[5]), 0U);
    EXPECT_EQ(y[6], kInfinity);
    EXPECT_LT(y[7], kInfinity);
    EXPECT_GT(y[7], 3.4e38F);
    EXPECT_EQ(y[8], kInfinity);
    EXPECT_GE(y[9], 0x1p-126F);
    EXPECT_EQ(y[10], 0.0F);
    EXPECT_EQ(y[11], 1.0F);
  }
}

// Each kernel over sizes 1..300, one guard element behind each output.
TEST(VectorTest, EveryInstructionSetEqualsScalar) {
  std::mt19937 random(kSeed);
  for (int64_t n = 1; n <= 300; ++n) {
    const float spread = std::exp2(static_cast<float>(n % 40) - 20.0F);
    std::vector<float> x = RandomFloats(n + 1, spread, random);
    std::vector<float> y = RandomFloats(n + 1, 3.0F, random);
    if (n % 7 == 0) {
      x[static_cast<size_t>(n / 2)] = n % 2 == 0 ? kInfinity : kNan;
      x[static_cast<size_t>(n / 3)] = -kInfinity;
    }
    x.back() = kGuard;
    y.back() = kGuard;
    const auto pairs = static_cast<size_t>(n / 2);
    const auto run = [&](const VectorTable& table) {
      std::vector<std::vector<float>> out(5, x);
      out[1].assign(x.size(), kGuard);
      table.rms_norm(x.data(), y.data(), 1e-5F, n, out[0].data());
      table.rms_norm(out[4].data(), y.data(), 1e-5F, n, out[4].data());  // in place
      table.swiglu(x.data(), y.data(), n, out[1].data());
      table.add(out[2].data(), y.data(), n);
      table.rope_half(out[3].data(), y.data(), y.data() + n / 4, static_cast<int64_t>(pairs));
      return out;
    };
    const auto want = run(kVectorScalar);
    ExpectSame(want[4], want[0], "in place");
    for (const auto& part : want) {
      ASSERT_EQ(part.back(), kGuard);
    }
    for (const Isa isa : SupportedIsas()) {
      const auto got = run(VectorKernels(isa));
      for (size_t part = 0; part < got.size(); ++part) {
        ExpectSame(got[part], want[part],
                   std::string(IsaName(isa)) + ", kernel " + std::to_string(part) + ", n " +
                       std::to_string(n));
      }
    }
  }
}

// A chain of n / 16 fused steps and four additions of positive terms: relative error at most
// (n / 16 + 5) u of the sum, halved by the root; division, eps, root, inverse and the two products
// add u each.
TEST(VectorTest, RmsNormAgreesWithDoublePrecision) {
  std::mt19937 random(kSeed + 1);
  for (const int64_t n : {1, 15, 16, 17, 100, 576, 2048, 5000}) {
    const std::vector<float> x = RandomFloats(n, 4.0F, random);
    const std::vector<float> weight = RandomFloats(n, 1.0F, random);
    std::vector<float> out(x.size());
    kVectorScalar.rms_norm(x.data(), weight.data(), 1e-6F, n, out.data());
    double sum = 0;
    for (const float value : x) {
      sum += static_cast<double>(value) * value;
    }
    const double inverse = 1 / std::sqrt(sum / static_cast<double>(n) + 1e-6);
    const double relative = 0x1p-24 * (static_cast<double>(n) / 32 + 9);
    for (size_t i = 0; i < x.size(); ++i) {
      const double want = x[i] * inverse * weight[i];
      ASSERT_NEAR(out[i], want, relative * std::abs(want)) << n << " " << i;
    }
  }
}

// 1 ulp of exp is 2 u; the sum, the quotient and the product add u each; results below the normal
// range are off by half a subnormal step each.
TEST(VectorTest, SwiGluAgreesWithDoublePrecision) {
  std::mt19937 random(kSeed + 2);
  const std::vector<float> gate = RandomFloats(4000, 20.0F, random);
  const std::vector<float> up = RandomFloats(4000, 2.0F, random);
  std::vector<float> out(gate.size());
  kVectorScalar.swiglu(gate.data(), up.data(), 4000, out.data());
  for (size_t i = 0; i < gate.size(); ++i) {
    const double want = gate[i] / (1 + std::exp(-static_cast<double>(gate[i]))) * up[i];
    ASSERT_NEAR(out[i], want, 6 * 0x1p-24 * std::abs(want) + 0x1p-146) << gate[i] << " " << up[i];
  }
  const std::vector<float> extreme = {-100.0F, -kInfinity, kInfinity, 200.0F};
  const std::vector<float> ones(4, 1.0F);
  kVectorScalar.swiglu(extreme.data(), ones.data(), 4, out.data());
  EXPECT_EQ(out[0], 0.0F);
  EXPECT_EQ(out[2], kInfinity);
  EXPECT_EQ(out[3], 200.0F);
}

TEST(VectorTest, RopeAndAddFollowTheirDefinitions) {
  std::mt19937 random(kSeed + 3);
  for (const int64_t pairs : {1, 8, 16, 32, 40, 64, 128}) {
    const auto count = static_cast<size_t>(pairs);
    const std::vector<float> x = RandomFloats(2 * pairs, 1.0F, random);
    const std::vector<float> cos = RandomFloats(pairs, 1.0F, random);
    const std::vector<float> sin = RandomFloats(pairs, 1.0F, random);
    for (const Isa isa : SupportedIsas()) {
      std::vector<float> rotated = x;
      VectorKernels(isa).rope_half(rotated.data(), cos.data(), sin.data(), pairs);
      std::vector<float> sum = cos;
      VectorKernels(isa).add(sum.data(), sin.data(), pairs);
      for (size_t i = 0; i < count; ++i) {
        const float a = x[i];
        const float b = x[i + count];
        ASSERT_EQ(rotated[i], std::fma(a, cos[i], -(b * sin[i])));
        ASSERT_EQ(rotated[i + count], std::fma(b, cos[i], a * sin[i]));
        ASSERT_EQ(sum[i], cos[i] + sin[i]);
      }
    }
  }
}

}  // namespace
}  // namespace mach::kernels
