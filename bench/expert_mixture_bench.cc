// Speed of the expert mixture in the 35B-A3B shape: hidden 2048, 256 experts of 512, the top 8, 4
// bits in groups of 64; all experts in memory (453 MB, so what a token uses is not in a cache).
//   mixture/rows:N   random routing, uniform
//   dense/rows:N     three dense layers with the same number of operations: gate and up of
//                    8 x 512 outputs, and down. For one row they read the same bytes.
//   read_memory      what plain loads of the experts get
//   GB/s: bytes of the experts that were used, each once;  TOPS: 2 * rows * 8 * 3 * 2048 * 512
// Example: expert_mixture_bench --benchmark_filter='threads:2'

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <benchmark/benchmark.h>

#include "backend/backend.h"
#include "backend/cpu/cpu_backend.h"
#include "platform/thread_pool.h"
#include "tensor/half.h"

namespace mach::backend {
namespace {

constexpr int64_t kHidden = 2048;
constexpr int64_t kIntermediate = 512;
constexpr int32_t kExperts = 256;
constexpr int32_t kTopK = 8;
constexpr AffineScheme kScheme = {4, 64};

// A random matrix as a file holds it.
struct Matrix {
  Matrix(int64_t out, int64_t in)
      : codes(static_cast<size_t>(out * in / 8)),
        scales(static_cast<size_t>(out * in / kScheme.group_size), FloatToF16(0.01F)) {
    std::mt19937 random(1);
    for (uint32_t& code : codes) {
      code = random();
    }
    view.scheme = kScheme;
    view.out_features = out;
    view.in_features = in;
    view.codes = {DType::kU32, Shape{out, in / 8}, std::as_bytes(std::span(codes))};
    view.scales = {DType::kF16, Shape{out, in / kScheme.group_size},
                   std::as_bytes(std::span(scales))};
    view.biases = view.scales;
  }
  Matrix(const Matrix&) = delete;
  Matrix& operator=(const Matrix&) = delete;
  ~Matrix() = default;

  std::vector<uint32_t> codes;
  std::vector<uint16_t> scales;
  AffineMatrixView view;
};

// All experts of a layer, each with memory of its own. One for the whole program.
struct Experts {
  Experts()
      : layout(
            ExpertLayout::Make(PackedSpec::Affine(kIntermediate, kHidden, kScheme, DType::kF16),
                               PackedSpec::Affine(kIntermediate, kHidden, kScheme, DType::kF16),
                               PackedSpec::Affine(kHidden, kIntermediate, kScheme, DType::kF16))),
        memory(budget, "experts", layout.record_bytes * kExperts) {
    ThreadPool pool(1);
    const Matrix up(kIntermediate, kHidden);
    const Matrix down(kHidden, kIntermediate);
    const auto part = [&](const ExpertPart& at) {
      return std::span(memory.data() + at.offset_bytes, at.spec.bytes());
    };
    PackAffine(up.view, "bench", part(layout.gate), pool);
    PackAffine(up.view, "bench", part(layout.up), pool);
    PackAffine(down.view, "bench", part(layout.down), pool);
    for (int32_t id = 1; id < kExperts; ++id) {
      std::memcpy(memory.data() + layout.record_bytes * static_cast<uint64_t>(id), memory.data(),
                  layout.record_bytes);
    }
  }

  MemoryBudget budget;
  ExpertLayout layout;
  Buffer memory;
};

Experts& SharedExperts() {
  static Experts experts;
  return experts;
}

class ResidentLease final : public ExpertLease {
 public:
  ResidentLease(const Experts& experts, const std::vector<int32_t>& ids) {
    for (const int32_t id : ids) {
      ready_.push_back({.id = id,
                        .record = experts.memory.data() +
                                  experts.layout.record_bytes * static_cast<uint64_t>(id)});
    }
  }
  std::span<const ReadyExpert> Next(const std::atomic<bool>* /*cancel*/) override {
    return std::exchange(done_, true) ? std::span<const ReadyExpert>() : ready_;
  }

 private:
  std::vector<ReadyExpert> ready_;
  bool done_ = false;
};

Routing RandomRouting(int64_t rows, std::mt19937& random) {
  Routing routing;
  routing.top_k = kTopK;
  routing.weights.assign(static_cast<size_t>(rows * kTopK), 1.0F / kTopK);
  std::vector<int32_t> all(kExperts);
  std::iota(all.begin(), all.end(), 0);
  for (int64_t row = 0; row < rows; ++row) {
    std::shuffle(all.begin(), all.end(), random);
    std::sort(all.begin(), all.begin() + kTopK);
    routing.ids.insert(routing.ids.end(), all.begin(), all.begin() + kTopK);
  }
  return routing;
}

Tensor Activations(Backend& backend, int64_t rows, int64_t cols) {
  std::mt19937 random(2);
  std::vector<float> values(static_cast<size_t>(rows * cols));
  for (float& value : values) {
    value = static_cast<float>(random() % 2001) - 1000.0F;
  }
  const auto table = backend.LoadLinear(
      {.out_features = rows,
       .in_features = cols,
       .dense = TensorView{DType::kF32, {rows, cols}, std::as_bytes(std::span(values))}},
      "bench");
  std::vector<int32_t> ids(static_cast<size_t>(rows));
  std::iota(ids.begin(), ids.end(), 0);
  return backend.Embed(*table, ids);
}

void SetCounters(benchmark::State& state, double bytes, int64_t rows) {
  const auto runs = static_cast<double>(state.iterations());
  const auto operations = 2.0 * static_cast<double>(rows * kTopK * 3 * kHidden * kIntermediate);
  state.counters["GB/s"] = benchmark::Counter(bytes * 1e-9, benchmark::Counter::kIsRate);
  state.counters["TOPS"] =
      benchmark::Counter(runs * operations * 1e-12, benchmark::Counter::kIsRate);
}

void MixtureRows(benchmark::State& state, Isa isa, int64_t rows, int threads) {
  const Experts& experts = SharedExperts();
  MemoryBudget budget;
  const auto backend = MakeCpuBackend(budget, {.threads = threads, .isa = isa});
  const Tensor x = Activations(*backend, rows, kHidden);
  std::mt19937 random(3);
  std::vector<Routing> routings;
  std::vector<std::vector<int32_t>> wanted;
  for (int i = 0; i < (rows > 64 ? 2 : 64); ++i) {
    routings.push_back(RandomRouting(rows, random));
    wanted.push_back(routings.back().ids);
    std::sort(wanted.back().begin(), wanted.back().end());
    wanted.back().erase(std::unique(wanted.back().begin(), wanted.back().end()),
                        wanted.back().end());
  }
  double bytes = 0;
  size_t turn = 0;
  for (auto _ : state) {
    const StepScope scope(*backend);
    const size_t at = turn++ % routings.size();
    ResidentLease lease(experts, wanted[at]);
    const Tensor y = backend->ExpertMixture(x, routings[at], experts.layout, lease);
    benchmark::DoNotOptimize(backend->Read(y).data());
    bytes += static_cast<double>(wanted[at].size() * experts.layout.weight_bytes());
  }
  SetCounters(state, bytes, rows);
}

void DenseRows(benchmark::State& state, Isa isa, int64_t rows, int threads) {
  MemoryBudget budget;
  const auto backend = MakeCpuBackend(budget, {.threads = threads, .isa = isa});
  const Tensor x = Activations(*backend, rows, kHidden);
  const Matrix up(kTopK * kIntermediate, kHidden);
  const Matrix down(kHidden, kTopK * kIntermediate);
  struct Layer {
    std::unique_ptr<LinearWeight> gate, up, down;
  };
  std::vector<Layer> layers;
  for (int i = 0; i < (rows > 64 ? 1 : 24); ++i) {
    const auto load = [&](const Matrix& matrix) {
      return backend->LoadLinear({.out_features = matrix.view.out_features,
                                  .in_features = matrix.view.in_features,
                                  .affine = matrix.view},
                                 "bench");
    };
    layers.push_back({load(up), load(up), load(down)});
  }
  size_t turn = 0;
  double bytes = 0;
  for (auto _ : state) {
    const StepScope scope(*backend);
    const Layer& layer = layers[turn++ % layers.size()];
    const LinearWeight* both[] = {layer.gate.get(), layer.up.get()};
    Tensor out[2];
    backend->Linear(x, both, out);
    const Tensor h = backend->SwiGlu(out[0], out[1]);
    const LinearWeight* last[] = {layer.down.get()};
    Tensor y[1];
    backend->Linear(h, last, y);
    benchmark::DoNotOptimize(backend->Read(y[0]).data());
    bytes += static_cast<double>(layer.gate->bytes() + layer.up->bytes() + layer.down->bytes());
  }
  SetCounters(state, bytes, rows);
}

// What the memory gives to plain loads: the ceiling of the GB/s above.
void ReadMemory(benchmark::State& state, int threads) {
  const Buffer& memory = SharedExperts().memory;
  ThreadPool pool(threads);
  const auto lines = static_cast<int64_t>(memory.size_bytes() / 64);
  for (auto _ : state) {
    pool.ParallelFor(lines, 1, [&](int64_t begin, int64_t end, int) {
      uint64_t sums[8] = {};
      const auto* data = reinterpret_cast<const uint64_t*>(memory.data());
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
      static_cast<double>(state.iterations()) * static_cast<double>(memory.size_bytes()) * 1e-9,
      benchmark::Counter::kIsRate);
}

void Register() {
  for (const int threads : {1, 2}) {
    const std::string suffix = "/threads:" + std::to_string(threads);
    benchmark::RegisterBenchmark(("read_memory" + suffix).c_str(), ReadMemory, threads)
        ->UseRealTime()
        ->Unit(benchmark::kMillisecond);
    for (const Isa isa : SupportedIsas()) {
      for (const int64_t rows : {1, 4, 16, 512, 2048}) {
        if (isa == Isa::kScalar && rows > 4) {
          continue;
        }
        const std::string middle = "/rows:" + std::to_string(rows) + suffix;
        for (const auto& [what, run] :
             {std::pair{"/mixture", &MixtureRows}, std::pair{"/dense", &DenseRows}}) {
          benchmark::RegisterBenchmark((std::string(IsaName(isa)) + what + middle).c_str(), run,
                                       isa, rows, threads)
              ->UseRealTime()
              ->Unit(benchmark::kMillisecond);
        }
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
