#include "decode/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "base/error.h"
#include "base/portable_math.h"
#include "decode/noise.h"

namespace mach::decode {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// `asked`: the request kept tokens from being chosen.
[[noreturn]] void NothingToSample(std::span<const float> logits, bool asked) {
  if (asked && std::none_of(logits.begin(), logits.end(), [](float x) { return std::isnan(x); })) {
    throw Error(ErrorCode::kInvalidArgument,
                "no token of the vocabulary is left to choose: penalties, or stop tokens before "
                "'min_tokens', exclude them all",
                "give fewer 'stop_token_ids', or no 'min_tokens'");
  }
  throw Error(ErrorCode::kInternal, "the model produced no finite logit",
              "the checkpoint may be damaged: `mach convert` it again");
}

}  // namespace

int64_t FreshSeed() {
  std::random_device device;
  return static_cast<int64_t>((static_cast<uint64_t>(device()) << 32) | device());
}

Sampler::Sampler(const SamplingParams& params, int64_t seed, std::span<const int32_t> prompt,
                 const kernels::KernelTable& table)
    : table_(&table),
      params_(params),
      seed_(seed),
      has_penalties_(params.presence_penalty != 0 || params.frequency_penalty != 0 ||
                     params.repetition_penalty != 1) {
  if (params_.repetition_penalty != 1) {
    for (const int32_t token : prompt) {
      seen_[token] = true;
    }
  }
}

void Sampler::Accept(int32_t token) {
  if (has_penalties_) {
    ++generated_counts_[token];
    seen_[token] = true;
  }
}

void Sampler::ApplyBiasAndPenalties(std::span<float> logits) const {
  const auto in_range = [&](int32_t token) {
    return token >= 0 && static_cast<size_t>(token) < logits.size();
  };
  for (const auto& [token, bias] : params_.logit_bias) {
    if (in_range(token)) {
      logits[static_cast<size_t>(token)] += bias;
    }
  }
  if (!has_penalties_) {
    return;
  }
  if (params_.repetition_penalty != 1) {
    for (const auto& [token, unused] : seen_) {
      if (in_range(token)) {
        float& logit = logits[static_cast<size_t>(token)];
        logit = logit > 0 ? logit / params_.repetition_penalty : logit * params_.repetition_penalty;
      }
    }
  }
  for (const auto& [token, count] : generated_counts_) {
    if (in_range(token)) {
      logits[static_cast<size_t>(token)] -=
          params_.presence_penalty + params_.frequency_penalty * static_cast<float>(count);
    }
  }
}

int32_t Sampler::Sample(std::span<float> logits, int64_t position,
                        std::span<const int32_t> banned) {
  ApplyBiasAndPenalties(logits);
  for (const int32_t token : banned) {
    if (token >= 0 && static_cast<size_t>(token) < logits.size()) {
      logits[static_cast<size_t>(token)] = -kInfinity;
    }
  }
  const LogitRow row(*table_, logits);
  if (row.best() == -kInfinity) {
    NothingToSample(logits, has_penalties_ || !banned.empty());
  }
  if (params_.temperature == 0 || row.best() == kInfinity) {
    return row.BestToken();  // nothing compares with an infinite logit
  }
  return row.Draw(params_.temperature, Filter(row, logits), GumbelNoise(seed_, position));
}

float Sampler::Filter(const LogitRow& row, std::span<float> logits) const {
  float least = -kInfinity;
  const auto keep = [&](const LogitRow::Cut& cut) {
    least = cut.logit;
    for (const int32_t token : cut.equals_left_out) {
      logits[static_cast<size_t>(token)] = -kInfinity;
    }
  };
  if (params_.top_k > 0) {
    if (const auto cut = row.AfterCount(params_.top_k)) {
      keep(*cut);
    }
  }
  if (params_.top_p < 1) {
    keep(row.AfterWeight(params_.top_p, params_.temperature, least));
  }
  if (params_.min_p > 0) {
    const double nats = PortableLog(static_cast<double>(params_.min_p));
    const double limit =
        static_cast<double>(row.best()) + static_cast<double>(params_.temperature) * nats;
    least = std::max(least, static_cast<float>(limit));
  }
  return least;
}

}  // namespace mach::decode
