// Speed of Gated DeltaNet in the 35B-A3B shape: 30 layers of 16 key and 32 value heads of 128.
//   rule     the kernel alone, 512 tokens of one head; ms/token is that of all layers and heads
//   step     one token through the states of all layers, which do not fit in a cache; GB/s counts
//            one read and one write of the state
//   layer    the whole operation (convolution, norms, rule, gate) of one layer; ms/token is that
//            of all layers
//   replay   rollback by 8 of 16 tokens, all layers
// Example: gated_delta_bench --benchmark_filter='avx512.*threads:1'

#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <benchmark/benchmark.h>

#include "backend/backend.h"
#include "backend/cpu/cpu_backend.h"
#include "kernels/kernels.h"

namespace mach::backend {
namespace {

constexpr RecurrentShape kShape = {
    .layers = 30, .k_heads = 16, .v_heads = 32, .k_dim = 128, .v_dim = 128, .conv_kernel = 4};

std::vector<float> RandomFloats(int64_t count, float spread) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0.0F, spread);
  std::vector<float> out(static_cast<size_t>(count));
  for (float& x : out) {
    x = normal(random);
  }
  return out;
}

void SetRate(benchmark::State& state, const char* name, double per_iteration) {
  state.counters[name] =
      benchmark::Counter(per_iteration * static_cast<double>(state.iterations()),
                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

// Milliseconds for one token, where an iteration takes `tokens` of `share` of the model.
void SetMsPerToken(benchmark::State& state, double tokens, double share) {
  SetRate(state, "ms/token", tokens * share * 1e-3);
}

void Rule(benchmark::State& state, Isa isa) {
  constexpr int64_t kTokens = 512;
  constexpr int64_t kDim = 128;
  MemoryBudget budget;
  Buffer memory(budget, "bench", kDim * kDim * sizeof(float));
  const auto q = RandomFloats(kTokens * kDim, 0.1F);
  const auto k = RandomFloats(kTokens * kDim, 0.08F);
  const auto v = RandomFloats(kTokens * kDim, 1.0F);
  const std::vector<float> gates(kTokens, 0.9F);
  std::vector<float> out(v.size());
  for (auto _ : state) {
    kernels::Kernels(isa).gated_delta({.tokens = kTokens,
                                       .k_dim = kDim,
                                       .v_dim = kDim,
                                       .q = q.data(),
                                       .k = k.data(),
                                       .v = v.data(),
                                       .decay = gates.data(),
                                       .beta = gates.data(),
                                       .gate_stride = 1,
                                       .state = memory.As<float>().data(),
                                       .new_state = memory.As<float>().data(),
                                       .out = out.data()});
    benchmark::DoNotOptimize(out.data());
  }
  SetMsPerToken(state, kTokens, 1.0 / (kShape.layers * kShape.v_heads));
}

// A backend with one layer's weights and the inputs of a step.
struct Bench {
  Bench(Isa isa, int threads, int64_t row_count)
      : backend(MakeCpuBackend(budget, {.threads = threads, .isa = isa})),
        rows(row_count),
        conv(Vector(kShape.conv_channels() * kShape.conv_kernel)),
        a_log(Vector(kShape.v_heads)),
        dt_bias(Vector(kShape.v_heads)),
        norm(Vector(kShape.v_dim)),
        store(backend->NewRecurrentStore(kShape)) {
    const int64_t values = static_cast<int64_t>(kShape.v_heads) * kShape.v_dim;
    input = {.qkv = Upload(kShape.conv_channels()),
             .z = Upload(values),
             .a = Upload(kShape.v_heads),
             .b = Upload(kShape.v_heads)};
  }

  std::unique_ptr<VectorWeight> Vector(int64_t size) {
    const auto values = RandomFloats(size, 0.5F);
    return backend->LoadVector({DType::kF32, {size}, std::as_bytes(std::span(values))});
  }
  Tensor Upload(int64_t cols) {
    const auto values = RandomFloats(rows * cols, 1.0F);
    const auto table = backend->LoadLinear(
        {.out_features = rows,
         .in_features = cols,
         .dense = TensorView{DType::kF32, {rows, cols}, std::as_bytes(std::span(values))}},
        "bench");
    std::vector<int32_t> ids;
    for (int32_t row = 0; row < rows; ++row) {
      ids.push_back(row);
    }
    return backend->Embed(*table, ids);
  }
  void Layer(int32_t layer) {
    const StepScope scope(*backend);
    const RowSpan span = {.recurrent = store.get(), .rows = rows};
    const GatedDeltaWeights weights = {conv.get(), a_log.get(), dt_bias.get(), norm.get()};
    const Tensor out = backend->GatedDelta(input, weights, {.norm_eps = 1e-6F}, layer, {&span, 1});
    benchmark::DoNotOptimize(backend->Read(out).data());
  }

  MemoryBudget budget;
  std::unique_ptr<Backend> backend;
  int64_t rows;
  std::unique_ptr<VectorWeight> conv, a_log, dt_bias, norm;
  std::unique_ptr<RecurrentStore> store;
  GatedDeltaInput input;
};

void Step(benchmark::State& state, Isa isa, int threads) {
  Bench bench(isa, threads, 1);
  for (auto _ : state) {
    bench.store->Begin(1, false);
    for (int32_t layer = 0; layer < kShape.layers; ++layer) {
      bench.Layer(layer);
    }
    bench.store->Commit();
  }
  SetMsPerToken(state, 1, 1);
  state.counters["GB/s"] = benchmark::Counter(
      static_cast<double>(state.iterations()) * static_cast<double>(bench.store->bytes()) * 1e-9,
      benchmark::Counter::kIsRate);
}

void LayerPrefill(benchmark::State& state, Isa isa, int threads) {
  constexpr int64_t kTokens = 512;
  Bench bench(isa, threads, kTokens);
  for (auto _ : state) {
    bench.store->Begin(kTokens, false);
    bench.Layer(0);
    bench.store->Commit();
  }
  SetMsPerToken(state, kTokens, 1.0 / kShape.layers);
}

void Replay(benchmark::State& state, Isa isa, int threads) {
  Bench bench(isa, threads, 16);
  for (auto _ : state) {
    state.PauseTiming();
    bench.store->Begin(16, true);
    for (int32_t layer = 0; layer < kShape.layers; ++layer) {
      bench.Layer(layer);
    }
    bench.store->Commit();
    state.ResumeTiming();
    bench.store->Rollback(8);
  }
}

void Register() {
  for (const Isa isa : SupportedIsas()) {
    const std::string name(IsaName(isa));
    benchmark::RegisterBenchmark((name + "/rule").c_str(), Rule, isa);
    for (const int threads : {1, 2}) {
      const std::string suffix = "/threads:" + std::to_string(threads);
      for (const auto& [what, run] : {std::pair{"/step", &Step}, std::pair{"/layer", &LayerPrefill},
                                      std::pair{"/replay", &Replay}}) {
        benchmark::RegisterBenchmark((name + what + suffix).c_str(), run, isa, threads)
            ->UseRealTime()
            ->Unit(benchmark::kMillisecond);
      }
    }
  }
}

}  // namespace
}  // namespace mach::backend

int main(int argc, char** argv) {
  mach::backend::Register();
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
