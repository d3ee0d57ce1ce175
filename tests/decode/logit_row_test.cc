// The ranking, its cuts and the draw against a slow reference, and the sampler and
// log-probabilities on top of them: random rows with ties, NaN and infinities, on every instruction
// set.
#include "decode/logit_row.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/portable_math.h"
#include "decode/logprob.h"
#include "decode/noise.h"
#include "decode/sampler.h"

namespace mach::decode {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Rows of many shapes: spread or nearly flat, on a grid (so that many are equal), all equal, with
// NaN and minus infinity, descending, with one far ahead.
std::vector<float> RandomRow(int kind, std::mt19937& random) {
  const std::vector<size_t> sizes = {1, 2, 63, 64, 65, 700, 3000, 3001, 3002, 12000};
  const size_t size = sizes[random() % sizes.size()];
  std::normal_distribution<float> normal(0, kind % 2 == 0 ? 4.0F : 0.01F);
  std::vector<float> row(size);
  for (float& logit : row) {
    logit = normal(random);
    if (kind % 3 == 1) {
      logit = std::round(logit * 2) / 2;
    }
    if (kind % 5 == 2) {
      logit = 1.5F;
    }
    if (kind % 4 == 3 && random() % 3 == 0) {
      logit = random() % 2 == 0 ? kNan : -kInf;
    }
  }
  if (kind % 7 == 5) {
    std::sort(row.begin(), row.end(), [](float a, float b) { return a > b; });
  }
  row[random() % size] = kind % 7 == 6 ? 40.0F : 3.0F;  // at least one finite logit
  return row;
}

bool RanksBefore(const std::vector<float>& row, int32_t a, int32_t b) {
  const float la = row[static_cast<size_t>(a)];
  const float lb = row[static_cast<size_t>(b)];
  return la != lb ? la > lb : a < b;
}

std::vector<int32_t> RankingOf(const std::vector<float>& row) {
  std::vector<int32_t> tokens;
  for (size_t i = 0; i < row.size(); ++i) {
    if (!std::isnan(row[i])) {
      tokens.push_back(static_cast<int32_t>(i));
    }
  }
  std::sort(tokens.begin(), tokens.end(),
            [&](int32_t a, int32_t b) { return RanksBefore(row, a, b); });
  return tokens;
}

int64_t WeightOf(float logit, float best, float temperature) {
  const kernels::TokenScale by = {
      .best = best,
      .scale = std::min(static_cast<float>(1 / static_cast<double>(temperature)),
                        std::numeric_limits<float>::max()),
      .least = -kInf};
  float weight = 0;
  uint32_t bucket = 0;
  kernels::Kernels(Isa::kScalar).token_weights(&logit, 1, by, &weight, &bucket);
  return std::llrint(weight);
}

// What sampler.h defines, step by step, on a sorted copy.
std::vector<int32_t> KeptTokens(const std::vector<float>& row, const SamplingParams& params) {
  std::vector<int32_t> tokens = RankingOf(row);
  const float best = row[static_cast<size_t>(tokens[0])];
  if (params.top_k > 0 && static_cast<size_t>(params.top_k) < tokens.size()) {
    tokens.resize(static_cast<size_t>(params.top_k));
  }
  if (params.top_p < 1) {
    std::vector<int64_t> weights;
    int64_t total = 0;
    for (const int32_t token : tokens) {
      weights.push_back(WeightOf(row[static_cast<size_t>(token)], best, params.temperature));
      total += weights.back();
    }
    const double share = static_cast<double>(params.top_p) * static_cast<double>(total);
    const int64_t target = std::max<int64_t>(static_cast<int64_t>(share), 1);
    int64_t sum = 0;
    size_t kept = 0;
    while (sum < target) {
      sum += weights[kept];
      ++kept;
    }
    tokens.resize(kept);
  }
  if (params.min_p > 0) {
    const auto limit = static_cast<float>(static_cast<double>(best) +
                                          static_cast<double>(params.temperature) *
                                              PortableLog(static_cast<double>(params.min_p)));
    std::erase_if(tokens, [&](int32_t token) { return row[static_cast<size_t>(token)] < limit; });
  }
  return tokens;
}

int32_t SlowDraw(const std::vector<float>& row, const std::vector<int32_t>& kept, float temperature,
                 int64_t seed, int64_t position) {
  const GumbelNoise noise(seed, position);
  const double best = row[static_cast<size_t>(RankingOf(row)[0])];
  int32_t drawn = -1;
  double drawn_score = -std::numeric_limits<double>::infinity();
  for (const int32_t token : kept) {
    const double logit = row[static_cast<size_t>(token)];
    const double score = (logit - best) / static_cast<double>(temperature) + noise(token);
    if (score > drawn_score || (score == drawn_score && token < drawn)) {
      drawn = token;
      drawn_score = score;
    }
  }
  return drawn;
}

SamplingParams RandomParams(std::mt19937& random) {
  const std::vector<float> temperatures = {1.0F, 0.6F, 1.7F, 0.05F, 1e-30F};
  const std::vector<int32_t> top_ks = {0, 1, 2, 20, 300, 5000};
  const std::vector<float> top_ps = {1.0F, 0.95F, 0.5F, 1e-6F, 0.9999999F};
  const std::vector<float> min_ps = {0.0F, 0.05F, 1.0F, 1e-6F};
  return {.temperature = temperatures[random() % temperatures.size()],
          .top_k = top_ks[random() % top_ks.size()],
          .top_p = top_ps[random() % top_ps.size()],
          .min_p = min_ps[random() % min_ps.size()]};
}

std::string Describe(const SamplingParams& params) {
  return "temperature " + std::to_string(params.temperature) + ", top_k " +
         std::to_string(params.top_k) + ", top_p " + std::to_string(params.top_p) + ", min_p " +
         std::to_string(params.min_p);
}

TEST(LogitRow, CutsAreThoseOfASortedRow) {
  std::mt19937 random(31);
  for (int kind = 0; kind < 140; ++kind) {
    const std::vector<float> row = RandomRow(kind, random);
    const std::vector<int32_t> ranking = RankingOf(row);
    const SamplingParams params = RandomParams(random);
    SCOPED_TRACE("kind " + std::to_string(kind) + ", size " + std::to_string(row.size()) + ", " +
                 Describe(params));
    const auto expect_cut = [&](const LogitRow::Cut& cut, size_t kept) {
      ASSERT_EQ(cut.token, ranking[kept - 1]);
      ASSERT_EQ(cut.logit, row[static_cast<size_t>(cut.token)]);
      std::vector<int32_t> equals;
      for (size_t i = kept; i < ranking.size() && row[static_cast<size_t>(ranking[i])] == cut.logit;
           ++i) {
        equals.push_back(ranking[i]);
      }
      ASSERT_EQ(cut.equals_left_out, equals);
    };
    for (const Isa isa : SupportedIsas()) {
      const LogitRow fast(kernels::Kernels(isa), row);
      ASSERT_EQ(fast.BestToken(), ranking[0]);
      const auto count = static_cast<int32_t>(random() % (row.size() + 2)) + 1;
      const auto cut = fast.AfterCount(count);
      if (cut) {
        expect_cut(*cut, static_cast<size_t>(count));
      } else {
        ASSERT_GE(static_cast<size_t>(count), ranking.size());
      }
      std::vector<int32_t> first = ranking;
      first.resize(std::min(ranking.size(), static_cast<size_t>(count)));
      ASSERT_EQ(fast.First(count), first);
      const std::vector<int32_t> kept =
          KeptTokens(row, {.temperature = params.temperature, .top_p = 0.9F});
      expect_cut(fast.AfterWeight(0.9F, params.temperature, -kInf), kept.size());
    }
  }
}

TEST(LogitRow, SamplerDrawsWhatTheDefinitionSays) {
  std::mt19937 random(32);
  for (int kind = 0; kind < 140; ++kind) {
    const std::vector<float> row = RandomRow(kind, random);
    for (int variant = 0; variant < 4; ++variant) {
      const SamplingParams params = RandomParams(random);
      SCOPED_TRACE("kind " + std::to_string(kind) + ", size " + std::to_string(row.size()) + ", " +
                   Describe(params));
      const auto seed = static_cast<int64_t>(random());
      const int32_t want = SlowDraw(row, KeptTokens(row, params), params.temperature, seed, kind);
      for (const Isa isa : SupportedIsas()) {
        std::vector<float> scratch = row;
        ASSERT_EQ(Sampler(params, seed, {}, kernels::Kernels(isa)).Sample(scratch, kind, {}), want);
      }
    }
  }
}

TEST(LogitRow, LogprobsAreThoseOfTheSoftmax) {
  std::mt19937 random(33);
  for (int kind = 0; kind < 140; ++kind) {
    const std::vector<float> row = RandomRow(kind, random);
    SCOPED_TRACE("kind " + std::to_string(kind) + ", size " + std::to_string(row.size()));
    const std::vector<int32_t> ranking = RankingOf(row);
    const double best = row[static_cast<size_t>(ranking[0])];
    double total = 0;
    for (const int32_t token : ranking) {
      total += std::exp(row[static_cast<size_t>(token)] - best);
    }
    const auto token = static_cast<int32_t>(random() % row.size());
    const float logit = row[static_cast<size_t>(token)];
    std::vector<TokenLogprob> want;
    const TokenLogprob chosen = Logprob(row, token, 20, &want, kernels::Kernels(Isa::kScalar));
    if (!std::isfinite(logit)) {
      EXPECT_EQ(chosen.logprob, -kInf);
    } else {
      EXPECT_NEAR(chosen.logprob, logit - best - std::log(total), 1e-6 * (1 + best - logit));
    }
    ASSERT_EQ(want.size(), std::min<size_t>(20, ranking.size()));
    for (size_t i = 0; i < want.size(); ++i) {
      EXPECT_EQ(want[i].token, ranking[i]);
    }
    for (const Isa isa : SupportedIsas()) {
      std::vector<TokenLogprob> top;
      EXPECT_EQ(Logprob(row, token, 20, &top, kernels::Kernels(isa)).logprob, chosen.logprob);
      for (size_t i = 0; i < want.size(); ++i) {
        EXPECT_EQ(top.at(i).token, want[i].token);
        EXPECT_EQ(top.at(i).logprob, want[i].logprob);
      }
    }
  }
}

}  // namespace
}  // namespace mach::decode
