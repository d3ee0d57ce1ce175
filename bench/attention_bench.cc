// Attention on one thread. Prefill reports the arithmetic on visible keys (4 head_dim operations
// for a query, head and key) per second, beside the processor's own rate of fused multiply-adds;
// decode the bytes of keys and values per second, beside a plain read of as much memory. KV blocks
// lie in shuffled order, as they do in a cache that has been in use.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "kernels/kernels.h"
#include "tensor/half.h"

namespace mach::kernels {
namespace {

struct Model {
  const char* name;
  int32_t q_heads;
  int32_t kv_heads;
  int32_t head_dim;
};

constexpr Model kModels[] = {
    {"smollm2", 9, 3, 64}, {"mha64", 4, 4, 64}, {"gqa8x128", 16, 2, 128}, {"gqa8x256", 16, 2, 256}};

class Kv {
 public:
  Kv(const Model& model, int64_t positions) {
    const int64_t blocks = (positions + kKvBlockTokens - 1) / kKvBlockTokens;
    const int64_t elements = kKvBlockTokens * model.kv_heads * model.head_dim;
    memory_.resize(static_cast<size_t>(2 * blocks * elements));
    std::minstd_rand random(1);
    for (uint16_t& x : memory_) {
      x = FloatToBf16(static_cast<float>(random() % 2001) * 1e-3F - 1.0F);
    }
    for (int64_t i = 0; i < 2 * blocks; ++i) {
      pages_.push_back(memory_.data() + i * elements);
    }
    std::shuffle(pages_.begin(), pages_.end(), random);
    view_ = {pages_.data(), pages_.data() + blocks, DType::kBF16, model.kv_heads, model.head_dim};
  }
  const KvLayerView& view() const { return view_; }
  const std::vector<uint16_t>& memory() const { return memory_; }

 private:
  std::vector<uint16_t> memory_;
  std::vector<void*> pages_;
  KvLayerView view_;
};

void AttentionBench(benchmark::State& state, Isa isa, const Model& model) {
  const int64_t first = state.range(0);
  const int64_t tokens = state.range(1);
  const Kv kv(model, first + tokens);
  const AttentionShape shape = {model.q_heads, 1 / std::sqrt(static_cast<float>(model.head_dim)),
                                0};
  const int64_t row = int64_t{model.q_heads} * model.head_dim;
  std::vector<float> q(static_cast<size_t>(tokens * row));
  std::minstd_rand random(2);
  for (float& x : q) {
    x = static_cast<float>(random() % 2001) * 1e-3F - 1.0F;
  }
  std::vector<float> out(q.size());
  const auto scratch =
      std::make_unique<std::byte[]>(AttentionScratchBytes(shape, model.head_dim) + 64);
  void* aligned = scratch.get() + 64 - reinterpret_cast<uintptr_t>(scratch.get()) % 64;
  for (auto _ : state) {
    Kernels(isa).attention(kv.view(), shape, first, tokens, q.data(), row, 0, model.q_heads,
                           out.data(), row, aligned);
    benchmark::ClobberMemory();
  }
  const double visible = static_cast<double>(tokens) *
                         (static_cast<double>(first) + (static_cast<double>(tokens) + 1) / 2);
  const auto rounds = static_cast<double>(state.iterations());
  state.counters["flops"] = benchmark::Counter(rounds * visible * 4 * static_cast<double>(row),
                                               benchmark::Counter::kIsRate);
  if (tokens == 1) {
    state.counters["kv_bytes"] =
        benchmark::Counter(rounds * visible * 4 * model.kv_heads * model.head_dim,
                           benchmark::Counter::kIsRate, benchmark::Counter::kIs1000);
  }
}

// What the memory gives to one thread that only adds up integers.
void ReadBench(benchmark::State& state) {
  const std::vector<uint64_t> memory(static_cast<size_t>(state.range(0)) / sizeof(uint64_t), 1);
  for (auto _ : state) {
    uint64_t sum = 0;
    for (const uint64_t x : memory) {
      sum += x;
    }
    benchmark::DoNotOptimize(sum);
  }
  state.counters["bytes"] =
      benchmark::Counter(static_cast<double>(state.iterations() * state.range(0)),
                         benchmark::Counter::kIsRate, benchmark::Counter::kIs1000);
}

#if defined(__x86_64__)
// The peak: independent fused multiply-adds in registers.
__attribute__((target("avx512f"))) void PeakBench(benchmark::State& state) {
  using Vector = float __attribute__((vector_size(64)));
  constexpr int kSteps = 1000;
  constexpr int kChains = 12;
  const Vector a = {};
  for (auto _ : state) {
    for (int i = 0; i < kSteps; ++i) {
      asm volatile(
          "vfmadd231ps %0, %0, %%zmm4\n vfmadd231ps %0, %0, %%zmm5\n"
          "vfmadd231ps %0, %0, %%zmm6\n vfmadd231ps %0, %0, %%zmm7\n"
          "vfmadd231ps %0, %0, %%zmm8\n vfmadd231ps %0, %0, %%zmm9\n"
          "vfmadd231ps %0, %0, %%zmm10\n vfmadd231ps %0, %0, %%zmm11\n"
          "vfmadd231ps %0, %0, %%zmm12\n vfmadd231ps %0, %0, %%zmm13\n"
          "vfmadd231ps %0, %0, %%zmm14\n vfmadd231ps %0, %0, %%zmm15\n"
          :
          : "v"(a)
          : "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13",
            "xmm14", "xmm15");
    }
  }
  state.counters["flops"] = benchmark::Counter(
      static_cast<double>(state.iterations()) * kSteps * kChains * 32, benchmark::Counter::kIsRate);
}
#endif

void Register() {
  for (const Isa isa : SupportedIsas()) {
    const std::string isa_name(IsaName(isa));
    if (isa == Isa::kScalar || isa == Isa::kAmxInt8) {
      continue;
    }
    for (const Model& model : kModels) {
      const std::string name = std::string(model.name) + "/" + isa_name;
      benchmark::RegisterBenchmark(("Prefill/" + name).c_str(), AttentionBench, isa, model)
          ->Args({0, 512})
          ->Args({8192, 64})
          ->Unit(benchmark::kMicrosecond);
      benchmark::RegisterBenchmark(("Verify/" + name).c_str(), AttentionBench, isa, model)
          ->Args({16384, 8})
          ->Unit(benchmark::kMicrosecond);
      benchmark::RegisterBenchmark(("Decode/" + name).c_str(), AttentionBench, isa, model)
          ->Args({1023, 1})
          ->Args({16383, 1})
          ->Args({99999, 1})
          ->Unit(benchmark::kMicrosecond);
    }
  }
  benchmark::RegisterBenchmark("Read", ReadBench)->Arg(64 << 20)->Arg(512 << 20);
#if defined(__x86_64__)
  if (SupportedIsas().back() >= Isa::kAvx512Vnni) {
    benchmark::RegisterBenchmark("Peak", PeakBench);
  }
#endif
}

}  // namespace
}  // namespace mach::kernels

int main(int argc, char** argv) {
  mach::kernels::Register();
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
