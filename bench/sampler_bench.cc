// Choosing a token from a row of 248,320 logits (the vocabulary of Qwen3.5), one thread.
//
// Logits: `peaked` as models give them (most near 0 with a deviation of 2.5, a few hundred rising
// to 24 with equal steps), `flat` normal with deviation 1, so that top_p 0.95 keeps most of them,
// and `equal` all the same.
#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "decode/logprob.h"
#include "decode/sampler.h"

namespace mach::decode {
namespace {

constexpr size_t kVocabulary = 248320;

std::vector<float> Peaked() {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 2.5F);
  std::vector<float> logits(kVocabulary);
  for (float& logit : logits) {
    logit = normal(random);
  }
  for (int i = 0; i < 300; ++i) {
    logits[random() % kVocabulary] = 24.0F - 0.05F * static_cast<float>(i);
  }
  return logits;
}

std::vector<float> Flat() {
  std::mt19937 random(2);
  std::normal_distribution<float> normal(0, 1);
  std::vector<float> logits(kVocabulary);
  std::generate(logits.begin(), logits.end(), [&] { return normal(random); });
  return logits;
}

// The sampler writes to its logits; copying them back is not its work.
void Sample(benchmark::State& state, const SamplingParams& params, const std::vector<float>& logits,
            Isa isa) {
  Sampler sampler(params, 7, {}, kernels::Kernels(isa));
  std::vector<float> scratch;
  int64_t position = 0;
  for (auto _ : state) {
    state.PauseTiming();
    scratch = logits;
    state.ResumeTiming();
    benchmark::DoNotOptimize(sampler.Sample(scratch, position++, {}));
  }
}

void TopLogprobs(benchmark::State& state, const std::vector<float>& logits, Isa isa) {
  for (auto _ : state) {
    std::vector<TokenLogprob> top;
    benchmark::DoNotOptimize(Logprob(logits, 17, 20, &top, kernels::Kernels(isa)));
  }
}

void Register() {
  const std::vector<std::pair<std::string, SamplingParams>> cases = {
      {"greedy", {.temperature = 0}},
      {"plain", {}},
      {"top_k_20", {.top_k = 20}},
      {"top_p_0.95", {.top_p = 0.95F}},
      {"min_p_0.05", {.min_p = 0.05F}},
      {"top_p_0.95_min_p_0.05", {.top_p = 0.95F, .min_p = 0.05F}},
      {"temperature_0.6_top_k_20_top_p_0.95", {.temperature = 0.6F, .top_k = 20, .top_p = 0.95F}},
  };
  const std::vector<std::pair<std::string, std::vector<float>>> rows = {
      {"peaked", Peaked()}, {"flat", Flat()}, {"equal", std::vector<float>(kVocabulary, 1.0F)}};
  for (const Isa isa : SupportedIsas()) {
    for (const auto& [shape, logits] : rows) {
      const std::string suffix = "/" + shape + "/" + std::string(IsaName(isa));
      for (const auto& [name, params] : cases) {
        benchmark::RegisterBenchmark((name + suffix).c_str(), Sample, params, logits, isa)
            ->Unit(benchmark::kMicrosecond);
      }
      benchmark::RegisterBenchmark(("top_20_logprobs" + suffix).c_str(), TopLogprobs, logits, isa)
          ->Unit(benchmark::kMicrosecond);
    }
  }
}

}  // namespace
}  // namespace mach::decode

int main(int argc, char** argv) {
  mach::decode::Register();
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
