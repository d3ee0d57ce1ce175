// Speed of the linear layers by instruction set, shape, batch and threads.
//   GB/s: packed weight bytes per second (batches that are limited by memory)
//   TOPS: 2 * rows * in * out per second
// The layers of one benchmark are as many copies as are needed to fill kWorkingSetBytes, so that a
// batch of one reads memory and not a cache; "hot" ones use a single copy.
// Example: linear_bench --benchmark_filter='avx512.*rows:1/'

#include <algorithm>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "kernels/kernels.h"

namespace mach::kernels {
namespace {

constexpr uint64_t kWorkingSetBytes = 256ULL << 20;

struct Layer {
  const char* name;
  int64_t out;
  int64_t in;
  int bits;  // 16: BF16
  int group_size;
  bool hot;
};

constexpr Layer kLayers[] = {
    {"smollm_gate_up", 3072, 576, 4, 32, true}, {"smollm_down", 576, 1536, 4, 32, true},
    {"smollm_qkv", 960, 576, 4, 32, true},      {"smollm_head", 49152, 576, 8, 32, false},
    {"expert_up", 512, 2048, 4, 64, true},      {"expert_down", 2048, 512, 4, 64, true},
    {"dense_g64", 4096, 4096, 4, 64, false},    {"dense_g128_6", 4096, 4096, 6, 128, false},
    {"dense_g32", 4096, 4096, 4, 32, false},    {"router_bf16", 256, 2048, 16, 0, true},
    {"dense_bf16", 2048, 2048, 16, 0, false},
};

PackedLinear MakeLayer(const Layer& layer, MemoryBudget& budget, ThreadPool& pool) {
  std::mt19937 random(1);
  if (layer.bits == 16) {
    std::vector<uint16_t> weights(static_cast<size_t>(layer.out * layer.in));
    for (uint16_t& weight : weights) {
      weight = static_cast<uint16_t>(0x3c00U | (random() & 0x80ffU));
    }
    const TensorView view = {DType::kBF16, Shape{layer.out, layer.in},
                             std::as_bytes(std::span(weights))};
    return PackedLinear::FromFloat(budget, "bench", view, nullptr, pool);
  }
  const int64_t groups = layer.in / layer.group_size;
  std::vector<uint32_t> codes(static_cast<size_t>(layer.out * layer.in * layer.bits / 32));
  for (uint32_t& code : codes) {
    code = random();
  }
  std::vector<uint16_t> scales(static_cast<size_t>(layer.out * groups), 0x2c00);
  AffineMatrixView view;
  view.scheme = {layer.bits, layer.group_size};
  view.out_features = layer.out;
  view.in_features = layer.in;
  view.codes = {DType::kU32, Shape{layer.out, layer.in * layer.bits / 32},
                std::as_bytes(std::span(codes))};
  view.scales = {DType::kF16, Shape{layer.out, groups}, std::as_bytes(std::span(scales))};
  view.biases = view.scales;
  return PackedLinear::FromAffine(budget, "bench", view, nullptr, pool);
}

void RunLayer(benchmark::State& state, Isa isa, const Layer& layer, int64_t rows, int threads) {
  MemoryBudget budget;
  ThreadPool pool(threads);
  std::vector<PackedLinear> copies;
  copies.push_back(MakeLayer(layer, budget, pool));
  const uint64_t bytes = copies.front().bytes();
  while (!layer.hot && rows <= 16 && copies.size() * bytes < kWorkingSetBytes) {
    copies.push_back(MakeLayer(layer, budget, pool));
  }
  const KernelTable& table = Kernels(isa);
  const int32_t group_size = layer.bits == 16 ? 32 : layer.group_size;
  std::mt19937 random(2);
  std::vector<float> x(static_cast<size_t>(rows * layer.in));
  for (float& value : x) {
    value = static_cast<float>(random() % 2001) - 1000.0F;
  }
  std::vector<int8_t> codes(x.size());
  std::vector<float> scales(x.size() / static_cast<size_t>(group_size));
  std::vector<float> sums(scales.size());
  const QuantizedRows quantized = {rows,         layer.in,      group_size,
                                   codes.data(), scales.data(), sums.data()};
  table.quantize_rows(x.data(), layer.in, 0, rows, quantized);
  std::vector<float> y(static_cast<size_t>(rows * layer.out));
  std::vector<Buffer> scratch;
  scratch.reserve(static_cast<size_t>(threads));
  for (int i = 0; i < threads; ++i) {
    scratch.emplace_back(budget, "scratch", LinearScratchBytes(isa, rows, layer.in));
  }
  size_t turn = 0;
  for (auto _ : state) {
    const PackedLinear& weight = copies[turn++ % copies.size()];
    pool.ParallelFor(weight.spec().strips(), 1, [&](int64_t begin, int64_t end, int worker) {
      if (weight.spec().is_affine) {
        table.linear_affine(weight.view(), quantized, begin, end, y.data(), layer.out,
                            scratch[static_cast<size_t>(worker)].data());
      } else {
        table.linear_float(weight.view(), x.data(), layer.in, rows, begin, end, y.data(),
                           layer.out);
      }
    });
    benchmark::DoNotOptimize(y.data());
  }
  const auto runs = static_cast<double>(state.iterations());
  state.counters["GB/s"] =
      benchmark::Counter(runs * static_cast<double>(bytes) * 1e-9, benchmark::Counter::kIsRate);
  state.counters["TOPS"] = benchmark::Counter(
      runs * 2e-12 * static_cast<double>(rows * layer.in * layer.out), benchmark::Counter::kIsRate);
}

// What the memory gives to plain loads: the ceiling of the GB/s above.
void ReadMemory(benchmark::State& state, int threads) {
  MemoryBudget budget;
  Buffer buffer(budget, "bench", kWorkingSetBytes);
  std::memset(buffer.data(), 1, buffer.size_bytes());
  ThreadPool pool(threads);
  const auto words = static_cast<int64_t>(buffer.size_bytes() / 64);
  for (auto _ : state) {
    pool.ParallelFor(words, 1, [&](int64_t begin, int64_t end, int) {
      uint64_t sums[8] = {};
      const auto* data = reinterpret_cast<const uint64_t*>(buffer.data());
      for (int64_t i = begin; i < end; ++i) {
        for (int64_t j = 0; j < 8; ++j) {
          sums[j] += data[i * 8 + j];
        }
      }
      for (uint64_t& sum : sums) {
        benchmark::DoNotOptimize(sum);
      }
    });
  }
  state.counters["GB/s"] = benchmark::Counter(
      static_cast<double>(state.iterations()) * static_cast<double>(buffer.size_bytes()) * 1e-9,
      benchmark::Counter::kIsRate);
}

void PackLayer(benchmark::State& state, int threads) {
  MemoryBudget budget;
  ThreadPool pool(threads);
  const int64_t out = 49152;
  const int64_t in = 4096;
  const std::vector<uint32_t> codes(static_cast<size_t>(out * in / 8), 0x12345678);
  const std::vector<uint16_t> scales(static_cast<size_t>(out * in / 64), 0x2c00);
  AffineMatrixView view;
  view.scheme = {4, 64};
  view.out_features = out;
  view.in_features = in;
  view.codes = {DType::kU32, Shape{out, in / 8}, std::as_bytes(std::span(codes))};
  view.scales = {DType::kF16, Shape{out, in / 64}, std::as_bytes(std::span(scales))};
  view.biases = view.scales;
  uint64_t bytes = 0;
  for (auto _ : state) {
    bytes += PackedLinear::FromAffine(budget, "bench", view, nullptr, pool).bytes();
  }
  state.counters["GB/s"] =
      benchmark::Counter(static_cast<double>(bytes) * 1e-9, benchmark::Counter::kIsRate);
}

void Register() {
  for (const int threads : {1, 2}) {
    const std::string suffix = "/threads:" + std::to_string(threads);
    benchmark::RegisterBenchmark(("read_memory" + suffix).c_str(), ReadMemory, threads)
        ->UseRealTime();
    benchmark::RegisterBenchmark(("pack_4bit" + suffix).c_str(), PackLayer, threads)
        ->UseRealTime()
        ->Unit(benchmark::kMillisecond);
    for (const Isa isa : SupportedIsas()) {
      for (const Layer& layer : kLayers) {
        for (const int64_t rows : {1, 2, 4, 8, 16, 64, 512}) {
          if (isa == Isa::kScalar && rows * layer.in * layer.out > 100'000'000) {
            continue;
          }
          const std::string name = std::string(IsaName(isa)) + "/" + layer.name +
                                   "/rows:" + std::to_string(rows) + suffix;
          benchmark::RegisterBenchmark(name.c_str(), RunLayer, isa, layer, rows, threads)
              ->UseRealTime()
              ->Unit(benchmark::kMicrosecond);
        }
      }
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
