// The noise of draws: its definition to the bit, and that it is Gumbel noise without a pattern.
#include "decode/noise.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <vector>

#include <gtest/gtest.h>

namespace mach::decode {
namespace {

// Whoever shares the noise relies on these. A change of any changes the text of every seed.
TEST(GumbelNoise, HasTheseBits) {
  struct Case {
    int64_t seed;
    int64_t position;
    int32_t token;
    uint64_t bits;
  };
  const std::vector<Case> cases = {{0, 0, 0, 0x3fe6ba50ff8f624d},
                                   {42, 7, 248319, 0x3feab89995c3e3ab},
                                   {-1, 1000000, 3, 0x3ffa86319a7d778c},
                                   {std::numeric_limits<int64_t>::max(), 0, 1, 0x3ff73f01aefa62ec}};
  for (const Case& c : cases) {
    EXPECT_EQ(std::bit_cast<uint64_t>(GumbelNoise(c.seed, c.position)(c.token)), c.bits)
        << std::hex << std::bit_cast<uint64_t>(GumbelNoise(c.seed, c.position)(c.token));
  }
}

// Moments, and correlation with the next token, the next position and the next seed, over a million
// values: each estimate lies within 5 standard errors.
TEST(GumbelNoise, IsStandardGumbelAndUncorrelated) {
  constexpr int kSeeds = 10;
  constexpr int kPositions = 100;
  constexpr int kTokens = 1000;
  constexpr double kCount = double{kSeeds} * kPositions * kTokens;
  const double variance = std::numbers::pi * std::numbers::pi / 6;
  double sum = 0;
  double squares = 0;
  std::array<double, 3> products = {};
  for (int seed = 0; seed < kSeeds; ++seed) {
    for (int position = 0; position < kPositions; ++position) {
      const GumbelNoise noise(seed, position);
      const GumbelNoise next_position(seed, position + 1);
      const GumbelNoise next_seed(seed + 1, position);
      for (int32_t token = 0; token < kTokens; ++token) {
        const double x = noise(token) - std::numbers::egamma;
        sum += x;
        squares += x * x;
        products[0] += x * (noise(token + 1) - std::numbers::egamma);
        products[1] += x * (next_position(token) - std::numbers::egamma);
        products[2] += x * (next_seed(token) - std::numbers::egamma);
      }
    }
  }
  EXPECT_NEAR(sum / kCount, 0, 5 * std::sqrt(variance / kCount));
  // The fourth central moment of a Gumbel variable is 5.4 squared variances.
  EXPECT_NEAR(squares / kCount, variance, 5 * std::sqrt(4.4 / kCount) * variance);
  for (const double product : products) {
    EXPECT_NEAR(product / kCount, 0, 5 * variance / std::sqrt(kCount));
  }
}

// exp(-exp(-noise)) is uniform: 256 bins, for a few consecutive tokens, over positions.
TEST(GumbelNoise, IsUniformForEachToken) {
  constexpr int kBins = 256;
  constexpr int kDraws = 100000;
  for (int32_t token = 1000; token < 1008; ++token) {
    std::array<int, kBins> counts = {};
    for (int position = 0; position < kDraws; ++position) {
      const double u = std::exp(-std::exp(-GumbelNoise(5, position)(token)));
      ++counts[static_cast<size_t>(u * kBins)];
    }
    double chi_square = 0;
    for (const int count : counts) {
      const double difference = count - double{kDraws} / kBins;
      chi_square += difference * difference / (double{kDraws} / kBins);
    }
    EXPECT_LT(chi_square, 255 + 5 * std::sqrt(2 * 255.0)) << token;
    EXPECT_GT(chi_square, 255 - 5 * std::sqrt(2 * 255.0)) << token;
  }
}

}  // namespace
}  // namespace mach::decode
