// The row kernels at the widths of small and large models, in bytes read and written per second.
#include <cstdint>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "kernels/kernels.h"

namespace mach::kernels {
namespace {

void CountBytes(benchmark::State& state, int64_t floats) {
  state.SetBytesProcessed(state.iterations() * floats * static_cast<int64_t>(sizeof(float)));
}

void RmsNormBench(benchmark::State& state, Isa isa) {
  const int64_t n = state.range(0);
  const std::vector<float> x(static_cast<size_t>(n), 1.5F);
  std::vector<float> out(x.size());
  for (auto _ : state) {
    Kernels(isa).rms_norm(x.data(), x.data(), 1e-5F, n, out.data());
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  CountBytes(state, 3 * n);
}

void SwiGluBench(benchmark::State& state, Isa isa) {
  const int64_t n = state.range(0);
  const std::vector<float> x(static_cast<size_t>(n), 0.7F);
  std::vector<float> out(x.size());
  for (auto _ : state) {
    Kernels(isa).swiglu(x.data(), x.data(), n, out.data());
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  CountBytes(state, 3 * n);
}

void StoreKvBench(benchmark::State& state, Isa isa) {
  const int64_t tokens = state.range(0);
  constexpr int32_t kHeads = 4;
  constexpr int32_t kHeadDim = 128;
  constexpr int64_t kRow = int64_t{kHeads} * kHeadDim;
  const int64_t blocks = (tokens + kKvBlockTokens - 1) / kKvBlockTokens;
  const std::vector<float> x(static_cast<size_t>(tokens * kRow), 0.7F);
  std::vector<uint16_t> memory(static_cast<size_t>(2 * blocks * kKvBlockTokens * kRow));
  std::vector<void*> pages;
  for (int64_t i = 0; i < 2 * blocks; ++i) {
    pages.push_back(memory.data() + i * kKvBlockTokens * kRow);
  }
  const KvLayerView kv = {pages.data(), pages.data() + blocks, DType::kBF16, kHeads, kHeadDim};
  for (auto _ : state) {
    Kernels(isa).store_kv(kv, 0, tokens, x.data(), kRow, x.data(), kRow);
    benchmark::ClobberMemory();
  }
  CountBytes(state, 2 * tokens * kRow);
}

void Register() {
  for (const Isa isa : SupportedIsas()) {
    const std::string name(IsaName(isa));
    for (const int64_t n : {576, 2048, 8192}) {
      benchmark::RegisterBenchmark(("RmsNorm/" + name).c_str(), RmsNormBench, isa)->Arg(n);
      benchmark::RegisterBenchmark(("SwiGlu/" + name).c_str(), SwiGluBench, isa)->Arg(n);
    }
    for (const int64_t tokens : {1, 512}) {
      benchmark::RegisterBenchmark(("StoreKv/" + name).c_str(), StoreKvBench, isa)->Arg(tokens);
    }
  }
}

}  // namespace
}  // namespace mach::kernels

int main(int argc, char** argv) {
  mach::kernels::Register();
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
