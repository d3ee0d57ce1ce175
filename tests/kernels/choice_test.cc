// The kernels for choosing a token: every instruction set against scalar bit for bit, scalar
// against the definitions.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/kernels.h"
#include "tests/kernels/kernel_test_util.h"

namespace mach::kernels {
namespace {

constexpr uint32_t kSeed = 90210;
constexpr uint32_t kUnused = 0xdeadbeef;

uint32_t NoiseOf(uint32_t token, const NoiseKey& key) {
  uint32_t x = token ^ key.first;
  x ^= x >> 16;
  x *= 0x85ebca6bU;
  x ^= key.second;
  x ^= x >> 13;
  x *= 0xc2b2ae35U;
  return x ^ (x >> 16);
}

// What all kernels make of one row; each output has a guard behind it.
struct Outputs {
  std::vector<float> maxima;
  std::vector<float> weights;
  std::vector<uint32_t> buckets;
  std::vector<uint32_t> between;
  int64_t found = 0;
  std::vector<float> bounds;
};

Outputs RunAll(Isa isa, const std::vector<float>& x, int64_t n, const TokenScale& by,
               const NoiseKey& key) {
  const KernelTable& table = Kernels(isa);
  const auto size = static_cast<size_t>(n);
  const size_t blocks = (size + kTokenBlock - 1) / kTokenBlock;
  Outputs out;
  out.maxima.assign(blocks + 1, kGuard);
  out.bounds.assign(blocks + 1, kGuard);
  out.weights.assign(size + 1, kGuard);
  out.buckets.assign(size + 1, kUnused);
  out.between.assign(size + 1, kUnused);
  table.block_maxima(x.data(), n, out.maxima.data());
  table.token_weights(x.data(), n, by, out.weights.data(), out.buckets.data());
  out.found = table.tokens_between(x.data(), n, by.least, by.best - 0.5F, out.between.data());
  table.noise_bounds(x.data(), n, by, key, out.maxima.data(), out.bounds.data());
  return out;
}

TEST(ChoiceKernels, EveryInstructionSetEqualsScalarAndTheDefinitions) {
  std::mt19937 random(kSeed);
  for (int64_t n = 1; n <= 300; ++n) {
    SCOPED_TRACE(n);
    const auto size = static_cast<size_t>(n);
    std::vector<float> x = RandomFloats(n + 1, n % 3 == 0 ? 0.1F : 12.0F, random);
    for (size_t i = 0; i + 1 < size; i += 5) {
      x[i + 1] = n % 2 == 0 ? x[i] : (i % 2 == 0 ? kNan : -kInfinity);
    }
    x.back() = 1000;  // not of the row
    float best = -kInfinity;
    for (size_t i = 0; i < size; ++i) {
      best = x[i] > best ? x[i] : best;
    }
    const TokenScale by = {.best = best,
                           .scale = n % 4 == 0 ? 2.5F : 1.0F,
                           .least = n % 5 == 0 ? -kInfinity : best - 9,
                           .buckets_per_nat = 11.3F,
                           .last_bucket = 255};
    const NoiseKey key = {.first = static_cast<uint32_t>(random()),
                          .second = static_cast<uint32_t>(random())};
    const Outputs want = RunAll(Isa::kScalar, x, n, by, key);

    std::vector<uint32_t> between;
    for (size_t i = 0; i < size; ++i) {
      const float t = (x[i] - best) * by.scale;
      if (x[i] >= by.least && x[i] <= best - 0.5F) {
        between.push_back(static_cast<uint32_t>(i));
      }
      const double exact = x[i] >= by.least ? std::exp(static_cast<double>(t)) * 0x1p40 : 0;
      ASSERT_NEAR(want.weights[i], exact, exact * 0x1p-22 + (exact < 0x1p-85 ? 0x1p-85 : 0));
      const bool last = !(t * -by.buckets_per_nat < by.last_bucket);
      ASSERT_EQ(want.buckets[i], last ? 255U : static_cast<uint32_t>(t * -by.buckets_per_nat));
    }
    between.resize(size + 1, kUnused);
    ASSERT_EQ(want.between, between);
    for (size_t block = 0; block + 1 < want.maxima.size(); ++block) {
      float most = -kInfinity;
      for (size_t i = block * kTokenBlock; i < std::min((block + 1) * kTokenBlock, size); ++i) {
        most = x[i] > most ? x[i] : most;
      }
      ASSERT_EQ(want.maxima[block], most);
    }
    ASSERT_EQ(want.maxima.back(), kGuard);
    ASSERT_EQ(want.bounds.back(), kGuard);
    ASSERT_EQ(want.weights.back(), kGuard);
    ASSERT_EQ(want.buckets.back(), kUnused);

    for (const Isa isa : SupportedIsas()) {
      SCOPED_TRACE(IsaName(isa));
      const Outputs got = RunAll(isa, x, n, by, key);
      ExpectSame(got.maxima, want.maxima, "maxima");
      ExpectSame(got.weights, want.weights, "weights");
      ExpectSame(got.bounds, want.bounds, "bounds");
      ASSERT_EQ(got.buckets, want.buckets);
      ASSERT_EQ(got.between, want.between);
      ASSERT_EQ(got.found, want.found);
    }
  }
}

// One token at a time: its bound is above its noise, whatever the bits that the kernel does not
// look at, and not far above where noise is large, which is where bounds decide.
TEST(ChoiceKernels, NoiseBoundsHoldAndAreTight) {
  std::mt19937 random(kSeed + 1);
  constexpr int64_t kTokens = 200;
  double largest = 0;
  for (int round = 0; round < 300; ++round) {
    const NoiseKey key = {.first = static_cast<uint32_t>(random()),
                          .second = static_cast<uint32_t>(random())};
    const TokenScale by = {.best = 3, .scale = 1.25F, .least = -2};
    for (uint32_t token = round % 7; token < kTokens; token += 7) {
      std::vector<float> x(kTokens, -5.0F);
      x[token] = 1.5F;
      std::vector<float> maxima(4);
      std::vector<float> bounds(4);
      const KernelTable& table = Kernels(BestIsa());
      table.block_maxima(x.data(), kTokens, maxima.data());
      table.noise_bounds(x.data(), kTokens, by, key, maxima.data(), bounds.data());
      for (size_t block = 0; block < bounds.size(); ++block) {
        if (block != token / kTokenBlock) {
          ASSERT_EQ(bounds[block], -kInfinity);
        }
      }
      const double shift = (1.5 - 3) * 1.25;
      const auto noise = static_cast<double>(NoiseOf(token, key));
      for (const double rest : {0x1p-21, 0.5, 1 - 0x1p-21}) {
        const double u = (noise + rest) * 0x1p-32;
        const double exact = shift - std::log(-std::log(u));
        ASSERT_GE(bounds[token / kTokenBlock], exact) << token;
        if (u > 0.9) {
          ASSERT_LE(bounds[token / kTokenBlock], exact + 0.15) << token;
        }
        largest = std::max(largest, exact - shift);
      }
    }
  }
  EXPECT_GT(largest, 7);  // some were in the tail that matters
}

}  // namespace
}  // namespace mach::kernels
