#include "decode/sampler.h"

#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"

namespace mach::decode {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

int32_t Draw(const SamplingParams& params, std::vector<float> logits, int64_t seed,
             int64_t position = 0, std::vector<int32_t> banned = {}) {
  return Sampler(params, seed, {}).Sample(logits, position, banned);
}

std::vector<double> Frequencies(const SamplingParams& params, const std::vector<float>& logits) {
  constexpr int kDraws = 40000;
  std::vector<double> counts(logits.size());
  for (int i = 0; i < kDraws; ++i) {
    counts[static_cast<size_t>(Draw(params, logits, 11, i))] += 1.0 / kDraws;
  }
  return counts;
}

TEST(Sampler, GreedyTakesTheBestAndTheSmallerIdOfEquals) {
  EXPECT_EQ(Draw({.temperature = 0}, {1, 3, 3, 2}, 5), 1);
  EXPECT_EQ(Draw({.temperature = 0}, {NAN, -1, -kInf}, 5), 1);
  EXPECT_THROW(Draw({.temperature = 0}, {NAN, NAN}, 5), Error);
  EXPECT_EQ(Draw({.temperature = 1}, {0, kInf, 0}, 5), 1);
}

TEST(Sampler, SaysWhoseFaultItIsThatNothingIsLeft) {
  const auto code = [](const std::vector<float>& logits, const std::vector<int32_t>& banned) {
    try {
      Draw({.temperature = 0}, logits, 5, 0, banned);
    } catch (const Error& error) {
      return error.code();
    }
    return ErrorCode::kUnavailable;  // something was drawn
  };
  EXPECT_EQ(code({1, 2}, {0, 1}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code({1, NAN}, {0}), ErrorCode::kInternal);
  EXPECT_EQ(code({-kInf, -kInf}, {}), ErrorCode::kInternal);
}

TEST(Sampler, DrawsTheSoftmax) {
  const std::vector<float> logits = {0, 1, 2, -50};
  const double z = 1 + std::exp(1) + std::exp(2);
  const auto f = Frequencies({.temperature = 1}, logits);
  EXPECT_NEAR(f[0], 1 / z, 0.01);
  EXPECT_NEAR(f[1], std::exp(1) / z, 0.01);
  EXPECT_NEAR(f[2], std::exp(2) / z, 0.01);
  EXPECT_EQ(f[3], 0);
  const double hot = 1 + std::exp(0.5) + std::exp(1.0);
  EXPECT_NEAR(Frequencies({.temperature = 2}, logits)[2], std::exp(1.0) / hot, 0.01);
}

TEST(Sampler, FiltersKeepWhatTheySay) {
  const std::vector<float> logits = {std::log(0.1F), std::log(0.5F), std::log(0.3F),
                                     std::log(0.1F)};
  auto f = Frequencies({.top_k = 2}, logits);
  EXPECT_NEAR(f[1], 0.5 / 0.8, 0.01);
  EXPECT_EQ(f[0] + f[3], 0);
  f = Frequencies({.top_p = 0.79F}, logits);  // 0.5 + 0.3 reaches it
  EXPECT_EQ(f[0] + f[3], 0);
  f = Frequencies({.top_p = 0.85F}, logits);  // one of the equal 0.1 joins: the smaller id
  EXPECT_NEAR(f[0], 0.1 / 0.9, 0.01);
  EXPECT_EQ(f[3], 0);
  f = Frequencies({.min_p = 0.55F}, logits);  // 0.3 / 0.5 = 0.6 stays
  EXPECT_NEAR(f[2], 0.3 / 0.8, 0.01);
  EXPECT_EQ(f[0] + f[3], 0);
  EXPECT_NEAR(Frequencies({.top_p = 1e-6F}, logits)[1], 1, 1e-9);
}

TEST(Sampler, DrawDependsOnSeedAndPositionOnly) {
  const std::vector<float> logits(1000, 0.0F);
  SamplingParams params;
  Sampler sampler(params, 42, {});
  std::vector<int32_t> forward;
  for (int64_t position = 0; position < 50; ++position) {
    auto copy = logits;
    forward.push_back(sampler.Sample(copy, position, {}));
  }
  for (int64_t position = 49; position >= 0; --position) {
    EXPECT_EQ(Draw(params, logits, 42, position), forward[static_cast<size_t>(position)]);
  }
  EXPECT_NE(Draw(params, logits, 43, 0), forward[0]);
}

TEST(Sampler, PenaltiesAndBias) {
  const std::vector<int32_t> prompt = {0};
  // Repetition: positive logits are divided, negative ones multiplied; the prompt counts.
  Sampler repetition({.temperature = 0, .repetition_penalty = 2}, 1, prompt);
  std::vector<float> logits = {3, 2, -1};
  EXPECT_EQ(repetition.Sample(logits, 0, {}), 1);
  EXPECT_FLOAT_EQ(logits[0], 1.5F);
  // Frequency counts what was generated, the prompt not.
  Sampler frequency({.temperature = 0, .presence_penalty = 0.25F, .frequency_penalty = 0.5F}, 1,
                    prompt);
  frequency.Accept(1);
  frequency.Accept(1);
  logits = {3, 4, 0};
  EXPECT_EQ(frequency.Sample(logits, 2, {}), 0);
  EXPECT_FLOAT_EQ(logits[1], 4 - 0.25F - 1.0F);
  EXPECT_EQ(
      Draw({.temperature = 0, .logit_bias = {{2, 100.0F}, {99, 1.0F}, {-1, 1.0F}}}, {1, 2, 0}, 1),
      2);
  EXPECT_EQ(Draw({.temperature = 0}, {1, 2, 0}, 1, 0, {1, 99}), 0);
}

TEST(Logprob, IsLogSoftmaxWithSortedAlternatives) {
  const std::vector<float> logits = {1, 2, 2, -kInf};
  std::vector<TokenLogprob> top;
  const double z = std::exp(1) + 2 * std::exp(2);
  EXPECT_NEAR(Logprob(logits, 0, 3, &top).logprob, 1 - std::log(z), 1e-6);
  ASSERT_EQ(top.size(), 3U);
  EXPECT_EQ(top[0].token, 1);
  EXPECT_EQ(top[1].token, 2);
  EXPECT_NEAR(top[1].logprob, 2 - std::log(z), 1e-6);
  EXPECT_EQ(top[2].token, 0);
}

}  // namespace
}  // namespace mach::decode
