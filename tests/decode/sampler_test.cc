#include "decode/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "decode/logprob.h"
#include "tests/support/cpu_time.h"
#include "tests/support/emulated.h"

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

// Draws over positions against the softmax of what the filters keep: chi-square with a seed that is
// fixed, so the result is too. Rows are longer than a block of the kernels.
TEST(Sampler, DrawsFollowTheSoftmaxOfWhatIsKept) {
  constexpr int kDraws = 30000;
  constexpr int kTokens = 150;
  std::vector<float> logits(kTokens);
  for (int i = 0; i < kTokens; ++i) {
    logits[static_cast<size_t>(i)] = 0.05F * static_cast<float>((i * 67) % kTokens);
  }
  logits[30] = logits[97];  // equal ones share
  std::vector<size_t> order(kTokens);
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t x, size_t y) { return logits[x] > logits[y]; });
  const std::vector<SamplingParams> cases = {
      {.temperature = 1},
      {.temperature = 0.5F},
      {.temperature = 2},
      {.temperature = 1, .top_k = 40},
      {.temperature = 1.5F, .top_k = 100, .top_p = 0.8F},
      {.temperature = 1, .top_p = 0.7F},
      {.temperature = 0.7F, .min_p = 0.1F},
      {.temperature = 1, .top_k = 60, .top_p = 0.9F, .min_p = 0.2F},
  };
  for (size_t n = 0; n < cases.size(); ++n) {
    SCOPED_TRACE(n);
    const SamplingParams& params = cases[n];
    // Probabilities of what is kept, in the order of the ranking, in double.
    std::vector<double> weights;
    for (const size_t token : order) {
      weights.push_back(std::exp((logits[token] - logits[order[0]]) / params.temperature));
    }
    if (params.top_k > 0) {
      weights.resize(static_cast<size_t>(params.top_k));
    }
    if (params.top_p < 1) {
      double left = params.top_p * std::accumulate(weights.begin(), weights.end(), 0.0);
      size_t kept = 0;
      for (; left > 0; ++kept) {
        left -= weights[kept];
      }
      weights.resize(kept);
    }
    std::erase_if(weights, [&](double weight) { return weight < params.min_p; });
    const double total = std::accumulate(weights.begin(), weights.end(), 0.0);

    Sampler sampler(params, 2026, {});
    std::vector<double> counts(kTokens);
    for (int position = 0; position < kDraws; ++position) {
      std::vector<float> scratch = logits;
      ++counts[static_cast<size_t>(sampler.Sample(scratch, position, {}))];
    }
    double chi_square = 0;
    double freedom = -1;
    double rare = 0;  // tokens of few expected draws are one bin
    double rare_count = 0;
    for (size_t i = 0; i < order.size(); ++i) {
      const double count = counts[order[i]];
      const double expected = i < weights.size() ? kDraws * weights[i] / total : 0;
      if (expected == 0) {
        EXPECT_EQ(count, 0) << "token " << order[i] << " is not kept";
      } else if (expected < 10) {
        rare += expected;
        rare_count += count;
      } else {
        chi_square += (count - expected) * (count - expected) / expected;
        ++freedom;
      }
    }
    if (rare > 0) {
      chi_square += (rare_count - rare) * (rare_count - rare) / rare;
      ++freedom;
    }
    ASSERT_GT(freedom, 15);
    EXPECT_NEAR(chi_square, freedom, 4 * std::sqrt(2 * freedom));
  }
}

// A row of 248,320 logits costs less to draw from than to sort, by far, whatever the filter.
TEST(Sampler, FiltersDoNotSortTheVocabulary) {
  if (testing_support::IsEmulated()) {
    GTEST_SKIP() << "the times of an emulator say nothing";
  }
  std::mt19937 random(3);
  std::normal_distribution<float> normal(0, 2);
  std::vector<float> logits(248320);
  std::generate(logits.begin(), logits.end(), [&] { return normal(random); });
  const auto seconds = [](const auto& work) {
    const double before = testing_support::ThreadCpuSeconds();
    work();
    return testing_support::ThreadCpuSeconds() - before;
  };
  const double sort = seconds([&] {
    std::vector<float> copy = logits;
    std::sort(copy.begin(), copy.end());
  });
  const std::vector<SamplingParams> cases = {
      {}, {.top_k = 50}, {.top_p = 0.95F}, {.min_p = 0.01F}, {.top_p = 0.9F, .min_p = 0.01F}};
  for (size_t n = 0; n < cases.size(); ++n) {
    std::vector<float> copy = logits;
    EXPECT_LT(seconds([&] { Sampler(cases[n], 1, {}).Sample(copy, 0, {}); }), sort / 2) << n;
  }
}

// What speculation rests on: a drafter with nearly the same distribution and the same noise mostly
// draws the same token, one with noise of its own as often as chance has it.
TEST(Sampler, SharedNoiseCouplesNearDistributions) {
  constexpr int kDraws = 4000;
  int shared = 0;
  int independent = 0;
  Sampler target({}, 1, {});
  Sampler drafter({}, 1, {});
  Sampler stranger({}, 2, {});
  for (int position = 0; position < kDraws; ++position) {
    std::vector<float> logits(200);
    std::vector<float> near(200);
    for (size_t i = 0; i < logits.size(); ++i) {
      logits[i] = 0.01F * static_cast<float>((i * 37) % 300);
      near[i] = logits[i] + ((i + static_cast<size_t>(position)) % 2 == 0 ? 0.05F : -0.05F);
    }
    std::vector<float> copy = near;
    const int32_t token = target.Sample(logits, position, {});
    shared += drafter.Sample(near, position, {}) == token ? 1 : 0;
    independent += stranger.Sample(copy, position, {}) == token ? 1 : 0;
  }
  EXPECT_GT(shared, kDraws * 9 / 10);
  EXPECT_LT(independent, kDraws / 10);
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

TEST(Logprob, IsDefinedForBrokenLogitsToo) {
  std::vector<TokenLogprob> top;
  EXPECT_EQ(Logprob(std::vector<float>{1, kInf, NAN}, 1, 3, &top).logprob, 0);
  ASSERT_EQ(top.size(), 2U);
  EXPECT_EQ(top[1].token, 0);
  EXPECT_EQ(top[1].logprob, -kInf);
  EXPECT_EQ(Logprob(std::vector<float>{1, NAN}, 1, 0, nullptr).logprob, -kInf);
  EXPECT_EQ(Logprob(std::vector<float>{1, NAN}, 0, 0, nullptr).logprob, 0);
  EXPECT_EQ(Logprob(std::vector<float>{-kInf}, 0, 1, &top).logprob, 0);
}

}  // namespace
}  // namespace mach::decode
