#include "decode/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <random>

#include "base/error.h"

namespace mach::decode {
namespace {

// Tokens less likely than the best by more than e^-30 (1e-13) are left out of a draw: no sequence
// that anyone will ever generate contains one, and most of a vocabulary goes without an exp.
constexpr double kNegligibleLogit = 30.0;

struct Candidate {
  double logit;  // divided by the temperature, relative to the best
  int32_t token;
};

bool Likelier(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
}

uint64_t Mix(uint64_t x) {  // the finaliser of splitmix64
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

// Uniform in [0, 1), a function of seed and position.
double UniformAt(int64_t seed, int64_t position) {
  const uint64_t bits = Mix(Mix(static_cast<uint64_t>(seed)) ^ static_cast<uint64_t>(position));
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

// Nothing if no logit is above minus infinity.
std::optional<int32_t> ArgMax(std::span<const float> logits) {
  std::optional<int32_t> best;
  float best_logit = -std::numeric_limits<float>::infinity();
  for (size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] > best_logit) {  // false for NaN
      best_logit = logits[i];
      best = static_cast<int32_t>(i);
    }
  }
  return best;
}

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

std::vector<Candidate> Candidates(std::span<const float> logits, float best, float temperature) {
  std::vector<Candidate> candidates;
  const double inverse = 1.0 / temperature;
  for (size_t i = 0; i < logits.size(); ++i) {
    const double logit = (static_cast<double>(logits[i]) - best) * inverse;
    if (logit >= -kNegligibleLogit) {
      candidates.push_back({logit, static_cast<int32_t>(i)});
    }
  }
  return candidates;
}

void KeepTopK(std::vector<Candidate>& candidates, int32_t top_k) {
  if (top_k > 0 && static_cast<size_t>(top_k) < candidates.size()) {
    std::nth_element(candidates.begin(), candidates.begin() + top_k, candidates.end(), Likelier);
    candidates.resize(static_cast<size_t>(top_k));
  }
}

}  // namespace

int64_t FreshSeed() {
  std::random_device device;
  return static_cast<int64_t>((static_cast<uint64_t>(device()) << 32) | device());
}

Sampler::Sampler(const SamplingParams& params, int64_t seed, std::span<const int32_t> prompt)
    : params_(params),
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
      logits[static_cast<size_t>(token)] = -std::numeric_limits<float>::infinity();
    }
  }
  const std::optional<int32_t> found = ArgMax(logits);
  if (!found) {
    NothingToSample(logits, has_penalties_ || !banned.empty());
  }
  const int32_t best = *found;
  if (params_.temperature == 0) {
    return best;
  }
  std::vector<Candidate> candidates =
      Candidates(logits, logits[static_cast<size_t>(best)], params_.temperature);
  if (candidates.empty()) {
    return best;  // an infinite logit: nothing else compares with it
  }
  KeepTopK(candidates, params_.top_k);
  std::vector<double> weights(candidates.size());
  double total = 0;
  if (params_.top_p < 1 || params_.min_p > 0) {
    std::sort(candidates.begin(), candidates.end(), Likelier);
  }
  for (size_t i = 0; i < candidates.size(); ++i) {
    weights[i] = std::exp(candidates[i].logit);
    total += weights[i];
  }
  size_t kept = candidates.size();
  if (params_.top_p < 1) {
    // The smallest set whose probability reaches top_p; the best token always stays.
    double sum = 0;
    for (size_t i = 0; i < kept; ++i) {
      sum += weights[i];
      if (sum >= params_.top_p * total) {
        kept = i + 1;
      }
    }
  }
  if (params_.min_p > 0) {
    while (kept > 1 && weights[kept - 1] < params_.min_p * weights[0]) {
      --kept;
    }
  }
  double kept_total = 0;
  for (size_t i = 0; i < kept; ++i) {
    kept_total += weights[i];
  }
  double left = UniformAt(seed_, position) * kept_total;
  for (size_t i = 0; i < kept; ++i) {
    left -= weights[i];
    if (left < 0) {
      return candidates[i].token;
    }
  }
  return candidates[kept - 1].token;  // rounding left a crumb
}

TokenLogprob Logprob(std::span<const float> logits, int32_t token, int32_t top,
                     std::vector<TokenLogprob>* alternatives) {
  double best = -std::numeric_limits<double>::infinity();
  for (const float logit : logits) {
    best = logit > best ? logit : best;
  }
  double sum = 0;
  for (const float logit : logits) {
    if (logit - best >= -kNegligibleLogit) {
      sum += std::exp(logit - best);
    }
  }
  const double log_total = best + std::log(sum);
  const auto logprob = [&](int32_t id) {
    return static_cast<float>(static_cast<double>(logits[static_cast<size_t>(id)]) - log_total);
  };
  if (alternatives != nullptr && top > 0) {
    std::vector<int32_t> ids(logits.size());
    for (size_t i = 0; i < ids.size(); ++i) {
      ids[i] = static_cast<int32_t>(i);
    }
    const auto count = std::min(static_cast<size_t>(top), ids.size());
    std::partial_sort(ids.begin(), ids.begin() + static_cast<ptrdiff_t>(count), ids.end(),
                      [&](int32_t a, int32_t b) {
                        const float la = logits[static_cast<size_t>(a)];
                        const float lb = logits[static_cast<size_t>(b)];
                        return la != lb ? la > lb : a < b;
                      });
    for (size_t i = 0; i < count; ++i) {
      alternatives->push_back({ids[i], logprob(ids[i])});
    }
  }
  return {token, logprob(token)};
}

}  // namespace mach::decode
