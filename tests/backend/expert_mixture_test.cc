// The router, the gates and the expert mixture: any order of arrival, any batch and any thread
// count give the same bits, close to double precision.
#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "backend/dry_backend.h"
#include "backend_test_util.h"
#include "base/error.h"
#include "platform/thread_pool.h"
#include "tensor/half.h"

namespace mach::backend {
namespace {

constexpr uint32_t kSeed = 20261126;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Bits per weight 16 and 32 mean F16 and F32 elements, 116 BF16; others are affine.
struct PartFormat {
  int bits = 4;
  int group_size = 64;
};

PackedSpec SpecOf(const PartFormat& format, int64_t out, int64_t in) {
  switch (format.bits) {
    case 32:
      return PackedSpec::Float(out, in, DType::kF32);
    case 16:
      return PackedSpec::Float(out, in, DType::kF16);
    case 116:
      return PackedSpec::Float(out, in, DType::kBF16);
    default:
      return PackedSpec::Affine(out, in, {format.bits, format.group_size}, DType::kF16);
  }
}

void FillRandom(const PackedSpec& spec, std::mt19937& random, ThreadPool& pool, std::byte* at) {
  const std::span<std::byte> out(at, spec.bytes());
  const auto half = [&](float spread) {
    return FloatToF16(std::normal_distribution<float>(0.0F, spread)(random));
  };
  if (spec.is_affine) {
    std::vector<uint32_t> codes(
        static_cast<size_t>(spec.out_features * spec.in_features * spec.scheme.bits / 32));
    for (uint32_t& code : codes) {
      code = random();
    }
    const int64_t groups = spec.in_features / spec.scheme.group_size;
    std::vector<uint16_t> scales(static_cast<size_t>(spec.out_features * groups));
    std::vector<uint16_t> biases(scales.size());
    for (size_t i = 0; i < scales.size(); ++i) {
      scales[i] = half(0.02F);
      biases[i] = half(0.1F);
    }
    AffineMatrixView view;
    view.scheme = spec.scheme;
    view.out_features = spec.out_features;
    view.in_features = spec.in_features;
    view.codes = {DType::kU32, Shape{spec.out_features, spec.in_features * spec.scheme.bits / 32},
                  std::as_bytes(std::span(codes))};
    view.scales = {DType::kF16, Shape{spec.out_features, groups}, std::as_bytes(std::span(scales))};
    view.biases = {DType::kF16, Shape{spec.out_features, groups}, std::as_bytes(std::span(biases))};
    PackAffine(view, "test", out, pool);
    return;
  }
  std::vector<std::byte> elements(static_cast<size_t>(spec.out_features * spec.in_features) *
                                  DTypeBytes(spec.dtype));
  for (size_t i = 0; i < static_cast<size_t>(spec.out_features * spec.in_features); ++i) {
    const float value = std::normal_distribution<float>(0.0F, 0.1F)(random);
    if (spec.dtype == DType::kF32) {
      std::memcpy(elements.data() + 4 * i, &value, 4);
    } else {
      const uint16_t bits = spec.dtype == DType::kF16 ? FloatToF16(value) : FloatToBf16(value);
      std::memcpy(elements.data() + 2 * i, &bits, 2);
    }
  }
  PackFloat({spec.dtype, Shape{spec.out_features, spec.in_features}, elements}, "test", out, pool);
}

// The experts of one layer in memory.
struct Experts {
  Experts(int64_t hidden, int64_t intermediate, int32_t number, const PartFormat& gate,
          const PartFormat& up, const PartFormat& down, uint32_t seed)
      : layout(ExpertLayout::Make(SpecOf(gate, intermediate, hidden),
                                  SpecOf(up, intermediate, hidden),
                                  SpecOf(down, hidden, intermediate))),
        count(number),
        memory(budget, "experts", layout.record_bytes * static_cast<uint64_t>(number)) {
    std::mt19937 random(seed);
    ThreadPool pool(1);
    for (int32_t id = 0; id < count; ++id) {
      for (const ExpertPart* part : {&layout.gate, &layout.up, &layout.down}) {
        FillRandom(part->spec, random, pool, memory.data() + RecordAt(id) + part->offset_bytes);
      }
    }
  }

  uint64_t RecordAt(int32_t id) const { return layout.record_bytes * static_cast<uint64_t>(id); }

  // y = W x of one part of one expert in double precision.
  std::vector<double> Apply(int32_t id, const ExpertPart& part,
                            const std::vector<double>& x) const {
    const PackedView view(part.spec, memory.data() + RecordAt(id) + part.offset_bytes);
    std::vector<double> y;
    std::vector<float> weights(x.size());
    for (int64_t row = 0; row < part.spec.out_features; ++row) {
      view.UnpackRow(row, weights);
      y.push_back(std::inner_product(x.begin(), x.end(), weights.begin(), 0.0));
    }
    return y;
  }

  MemoryBudget budget;
  ExpertLayout layout;
  int32_t count;
  Buffer memory;
};

// Hands the experts out in given batches. What an earlier call returned is overwritten, as a bank
// that reads into the same slots would.
class ScriptedLease final : public ExpertLease {
 public:
  ScriptedLease(const Experts& experts, std::vector<std::vector<int32_t>> batches)
      : experts_(experts), batches_(std::move(batches)) {}

  std::span<const ReadyExpert> Next(const std::atomic<bool>* /*cancel*/) override {
    ready_.clear();
    if (slots_.size_bytes() > 0) {
      std::memset(slots_.data(), 0xff, slots_.size_bytes());
    }
    if (turn_ == batches_.size()) {
      return {};
    }
    const std::vector<int32_t>& batch = batches_[turn_++];
    slots_ = Buffer(budget_, "slots", experts_.layout.record_bytes * batch.size());
    for (size_t i = 0; i < batch.size(); ++i) {
      std::byte* slot = slots_.data() + i * experts_.layout.record_bytes;
      std::memcpy(slot, experts_.memory.data() + experts_.RecordAt(batch[i]),
                  experts_.layout.record_bytes);
      ready_.push_back({.id = batch[i], .record = slot});
    }
    return ready_;
  }

 private:
  const Experts& experts_;
  std::vector<std::vector<int32_t>> batches_;
  size_t turn_ = 0;
  MemoryBudget budget_;
  Buffer slots_;
  std::vector<ReadyExpert> ready_;
};

Routing RandomRouting(int64_t rows, int32_t top_k, int32_t experts, std::mt19937& random) {
  Routing routing;
  routing.top_k = top_k;
  std::vector<int32_t> all(static_cast<size_t>(experts));
  std::iota(all.begin(), all.end(), 0);
  for (int64_t row = 0; row < rows; ++row) {
    std::shuffle(all.begin(), all.end(), random);
    std::sort(all.begin(), all.begin() + top_k);
    routing.ids.insert(routing.ids.end(), all.begin(), all.begin() + top_k);
    for (int32_t rank = 0; rank < top_k; ++rank) {
      routing.weights.push_back(std::uniform_real_distribution<float>(0.0F, 1.0F)(random));
    }
  }
  return routing;
}

Routing RowsOf(const Routing& routing, int64_t first, int64_t count) {
  Routing part;
  part.top_k = routing.top_k;
  const int64_t k = routing.top_k;
  part.ids.assign(routing.ids.begin() + first * k, routing.ids.begin() + (first + count) * k);
  part.weights.assign(routing.weights.begin() + first * k,
                      routing.weights.begin() + (first + count) * k);
  return part;
}

std::vector<int32_t> Wanted(const Routing& routing) {
  std::vector<int32_t> ids = routing.ids;
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

std::vector<float> Mix(Backend& backend, const Experts& experts, const std::vector<float>& x,
                       const Routing& routing, std::vector<std::vector<int32_t>> batches) {
  const StepScope scope(backend);
  ScriptedLease lease(experts, std::move(batches));
  const Tensor input = Upload(backend, x, experts.layout.gate.spec.in_features);
  return Download(backend, backend.ExpertMixture(input, routing, experts.layout, lease));
}

// Cuts a shuffled list of experts into random batches.
std::vector<std::vector<int32_t>> RandomArrival(std::vector<int32_t> ids, std::mt19937& random) {
  std::shuffle(ids.begin(), ids.end(), random);
  std::vector<std::vector<int32_t>> batches(1);
  for (const int32_t id : ids) {
    if (!batches.back().empty() && random() % 3 == 0) {
      batches.emplace_back();
    }
    batches.back().push_back(id);
  }
  return batches;
}

struct MixtureCase {
  int64_t hidden;
  int64_t intermediate;
  PartFormat gate, up, down;
};

const std::array<MixtureCase, 5> kCases = {{
    {128, 64, {4, 64}, {4, 64}, {4, 64}},
    {192, 160, {4, 64}, {6, 32}, {8, 32}},
    {72, 40, {32, 0}, {16, 0}, {116, 0}},
    {128, 40, {3, 128}, {5, 64}, {116, 0}},
    {40, 128, {116, 0}, {116, 0}, {4, 128}},
}};

TEST(ExpertMixture, ArrivalBatchAndThreadsDoNotMatter) {
  for (const MixtureCase& shape : kCases) {
    const Experts experts(shape.hidden, shape.intermediate, 12, shape.gate, shape.up, shape.down,
                          kSeed);
    std::mt19937 random(kSeed + 1);
    constexpr int64_t kRows = 230;  // more uses than a batch holds
    const std::vector<float> x = RandomFloats(kRows * shape.hidden, 1.0F, random);
    const Routing routing = RandomRouting(kRows, 4, experts.count, random);
    std::vector<float> want;
    for (const CpuOptions& options : AllOptions()) {
      MemoryBudget budget;
      const auto backend = MakeCpuBackend(budget, options);
      // All experts at once, as from memory.
      const std::vector<float> got = Mix(*backend, experts, x, routing, {Wanted(routing)});
      if (want.empty()) {
        want = got;
      }
      ExpectSame(got, want, Describe(options));
      for (int round = 0; round < 3; ++round) {
        ExpectSame(Mix(*backend, experts, x, routing, RandomArrival(Wanted(routing), random)), want,
                   "arrival " + std::to_string(round));
      }
      int64_t first = 0;
      for (const int64_t rows : {1, 1, 2, 5, 16, 40}) {
        const Routing part = RowsOf(routing, first, rows);
        const std::vector<float> part_x(x.begin() + first * shape.hidden,
                                        x.begin() + (first + rows) * shape.hidden);
        const std::vector<float> part_want(want.begin() + first * shape.hidden,
                                           want.begin() + (first + rows) * shape.hidden);
        ExpectSame(Mix(*backend, experts, part_x, part, RandomArrival(Wanted(part), random)),
                   part_want, std::to_string(rows) + " rows alone");
        first += rows;
      }
    }
  }
}

// Weights and codes are exact here; what differs is the rounding of activations to int8, half a
// step of 1/127 of the group's largest, before each of the two products.
TEST(ExpertMixture, AgreesWithDoublePrecision) {
  for (const MixtureCase& shape : kCases) {
    const Experts experts(shape.hidden, shape.intermediate, 6, shape.gate, shape.up, shape.down,
                          kSeed + 2);
    std::mt19937 random(kSeed + 3);
    const std::vector<float> x = RandomFloats(9 * shape.hidden, 1.0F, random);
    const Routing routing = RandomRouting(9, 3, experts.count, random);
    MemoryBudget budget;
    const auto backend = MakeCpuBackend(budget, {.threads = 2});
    const std::vector<float> got = Mix(*backend, experts, x, routing, {Wanted(routing)});
    double error = 0;
    double magnitude = 0;
    for (size_t row = 0; row < 9; ++row) {
      const auto* from = x.data() + row * static_cast<size_t>(shape.hidden);
      const std::vector<double> input(from, from + shape.hidden);
      std::vector<double> want(static_cast<size_t>(shape.hidden));
      for (size_t use = row * 3; use < row * 3 + 3; ++use) {
        std::vector<double> h = experts.Apply(routing.ids[use], experts.layout.gate, input);
        const std::vector<double> up = experts.Apply(routing.ids[use], experts.layout.up, input);
        for (size_t i = 0; i < h.size(); ++i) {
          h[i] = h[i] / (1 + std::exp(-h[i])) * up[i];
        }
        const std::vector<double> y = experts.Apply(routing.ids[use], experts.layout.down, h);
        for (size_t i = 0; i < want.size(); ++i) {
          want[i] += routing.weights[use] * y[i];
        }
      }
      for (size_t i = 0; i < want.size(); ++i) {
        const double difference = got[row * want.size() + i] - want[i];
        error += difference * difference;
        magnitude += want[i] * want[i];
      }
    }
    const bool all_float = shape.gate.bits >= 16 && shape.up.bits >= 16 && shape.down.bits >= 16;
    // Uniform rounding of a Gaussian group of 128 with step max/127 (max about 3 sigma) is 0.7 %
    // of its norm; three such errors.
    EXPECT_LT(std::sqrt(error / magnitude), all_float ? 1e-6 : 0.03) << shape.hidden;
  }
}

TEST(ExpertMixture, ANanStaysInItsRow) {
  const MixtureCase& shape = kCases[0];
  const Experts experts(shape.hidden, shape.intermediate, 4, shape.gate, shape.up, shape.down,
                        kSeed);
  std::mt19937 random(kSeed + 4);
  std::vector<float> x = RandomFloats(20 * shape.hidden, 1.0F, random);
  const Routing routing = RandomRouting(20, 4, 4, random);  // every row uses every expert
  MemoryBudget budget;
  const auto backend = MakeCpuBackend(budget, {.threads = 2});
  std::vector<float> want = Mix(*backend, experts, x, routing, {Wanted(routing)});
  x[static_cast<size_t>(7 * shape.hidden + 5)] = kNan;
  const std::vector<float> got = Mix(*backend, experts, x, routing, {{2}, {0, 1}, {3}});
  std::fill_n(want.begin() + 7 * shape.hidden, shape.hidden, kNan);
  ExpectSame(got, want, "NaN in row 7");
}

// A lease that fails, after some experts have been computed.
class FailingLease final : public ExpertLease {
 public:
  explicit FailingLease(ExpertLease& lease) : lease_(lease) {}
  std::span<const ReadyExpert> Next(const std::atomic<bool>* cancel) override {
    if (turn_++ == 2) {
      throw Error(ErrorCode::kIo, "experts.bin: read failed at 16384");
    }
    return lease_.Next(cancel);
  }

 private:
  ExpertLease& lease_;
  int turn_ = 0;
};

TEST(ExpertMixture, AFailedReadLeavesTheBackendUsable) {
  const MixtureCase& shape = kCases[0];
  const Experts experts(shape.hidden, shape.intermediate, 8, shape.gate, shape.up, shape.down,
                        kSeed);
  std::mt19937 random(kSeed + 5);
  const std::vector<float> x = RandomFloats(3 * shape.hidden, 1.0F, random);
  const Routing routing = RandomRouting(3, 8, 8, random);
  MemoryBudget budget;
  const auto backend = MakeCpuBackend(budget, {.threads = 2});
  const std::vector<float> want = Mix(*backend, experts, x, routing, {Wanted(routing)});
  const uint64_t mark = backend->Mark();
  {
    const StepScope scope(*backend);
    ScriptedLease lease(experts, {{3}, {0, 5}, {1, 2}, {4, 6, 7}});
    FailingLease failing(lease);
    const Tensor input = Upload(*backend, x, shape.hidden);
    EXPECT_THROW(backend->ExpertMixture(input, routing, experts.layout, failing), Error);
  }
  EXPECT_EQ(backend->Mark(), mark);
  ExpectSame(Mix(*backend, experts, x, routing, {{7, 0}, {3, 1, 2}, {6}, {4, 5}}), want, "after");
}

// Experts that arrive in order are added in place: memory does not grow with rows x top_k.
TEST(ExpertMixture, InOrderArrivalKeepsNoResults) {
  const MixtureCase& shape = kCases[0];
  const Experts experts(shape.hidden, shape.intermediate, 32, shape.gate, shape.up, shape.down,
                        kSeed);
  std::mt19937 random(kSeed + 6);
  constexpr int64_t kRows = 4096;
  const std::vector<float> x = RandomFloats(kRows * shape.hidden, 1.0F, random);
  const Routing routing = RandomRouting(kRows, 8, experts.count, random);
  MemoryBudget budget;
  const auto backend = MakeCpuBackend(budget, {.threads = 2});
  Mix(*backend, experts, x, routing, {Wanted(routing)});
  const uint64_t kept = 8ULL * kRows * static_cast<uint64_t>(shape.hidden) * sizeof(float);
  EXPECT_LT(budget.BytesByOwner()["activations"], kept / 2);
}

// The activations of a mixture whose experts come in order. Of equal logits the router takes the
// first experts for every row, as the dry backend does of any.
uint64_t PeakOfMixture(Backend& backend, const Experts& experts, int64_t rows,
                       const Routing* given) {
  const StepScope scope(backend);
  const int64_t hidden = experts.layout.gate.spec.in_features;
  const Tensor x = Upload(backend, std::vector<float>(static_cast<size_t>(rows * hidden)), hidden);
  const Tensor logits =
      Upload(backend, std::vector<float>(static_cast<size_t>(rows * experts.count)), experts.count);
  const Routing routing = given != nullptr ? *given : backend.Route(logits, {.top_k = 4});
  std::vector<WantedExpert> wanted;
  for (const int32_t id : Wanted(routing)) {
    wanted.push_back({.id = id});
  }
  const auto dry_lease = MakeDryExperts(experts.layout, 1, experts.count)
                             ->Acquire(0, wanted, rows, ExpertUse::kPrefill);
  ScriptedLease lease(experts, {Wanted(routing)});
  const uint64_t before = backend.Mark();
  backend.TakePeakActivationBytes();
  backend.ExpertMixture(x, routing, experts.layout,
                        backend.name() == "dry" ? *dry_lease : static_cast<ExpertLease&>(lease));
  return backend.TakePeakActivationBytes() - before;
}

TEST(ExpertMixture, TheDryBackendCountsTheMostThatIsTaken) {
  for (const MixtureCase& shape : kCases) {
    const Experts experts(shape.hidden, shape.intermediate, 8, shape.gate, shape.up, shape.down,
                          kSeed);
    std::mt19937 random(kSeed + 7);
    for (const int64_t rows : {1, 2, 70, 300}) {
      SCOPED_TRACE(rows);
      MemoryBudget budget;
      const auto cpu = MakeCpuBackend(budget, {.threads = 3});
      cpu->ReserveActivations(64 << 20);
      MemoryBudget dry_budget = MemoryBudget::Dry();
      const auto dry = MakeDryBackend(dry_budget, {.threads = 3});
      const uint64_t counted = PeakOfMixture(*dry, experts, rows, nullptr);
      EXPECT_EQ(counted, PeakOfMixture(*cpu, experts, rows, nullptr));
      const Routing routing = RandomRouting(rows, 4, 8, random);
      EXPECT_GE(counted, PeakOfMixture(*cpu, experts, rows, &routing));
    }
  }
}

TEST(Route, TakesTheLargestWithTiesToTheLowerIndex) {
  MemoryBudget budget;
  const auto backend = MakeCpuBackend(budget, {.threads = 2});
  const StepScope scope(*backend);
  const std::vector<float> logits = {1,  3,    3,  2,  3,  0,   //
                                     5,  5,    5,  5,  5,  5,   //
                                     -9, -8,   -7, -6, -5, -4,  //
                                     0,  kNan, 1,  2,  3,  4};
  const Tensor x = Upload(*backend, logits, 6);
  const Routing routing = backend->Route(x, {.top_k = 2, .normalise = true});
  const std::vector<int32_t> ids = {1, 2, 0, 1, 4, 5, 0, 1};
  EXPECT_EQ(routing.ids, ids);
  EXPECT_EQ(routing.top_k, 2);
  EXPECT_EQ(routing.weights[0], 0.5F);
  EXPECT_EQ(routing.weights[2], 0.5F);
  EXPECT_NEAR(routing.weights[4], 1 / (1 + std::exp(1.0)), 1e-7);
  EXPECT_NEAR(routing.weights[5], 1 / (1 + std::exp(-1.0)), 1e-7);
  EXPECT_TRUE(std::isnan(routing.weights[6]));
  const Routing plain = backend->Route(x, {.top_k = 3, .normalise = false});
  EXPECT_EQ(std::vector<int32_t>(plain.ids.begin(), plain.ids.begin() + 3),
            (std::vector<int32_t>{1, 2, 4}));
  EXPECT_NEAR(plain.weights[3], 1.0 / 6, 1e-7);
}

TEST(Route, EqualsASortOfTheProbabilities) {
  std::mt19937 random(kSeed + 7);
  constexpr int64_t kRows = 300;
  constexpr int32_t kExperts = 256;
  std::vector<float> logits = RandomFloats(kRows * kExperts, 2.0F, random);
  for (float& logit : logits) {
    logit = std::round(logit * 8) / 8;  // many ties
  }
  std::vector<Routing> routings;
  for (const int threads : {1, 3}) {
    MemoryBudget budget;
    const auto backend = MakeCpuBackend(budget, {.threads = threads});
    const StepScope scope(*backend);
    routings.push_back(backend->Route(Upload(*backend, logits, kExperts), {.top_k = 8}));
  }
  EXPECT_EQ(routings[0].ids, routings[1].ids);
  EXPECT_EQ(routings[0].weights, routings[1].weights);
  for (size_t row = 0; row < kRows; ++row) {
    const float* from = logits.data() + row * kExperts;
    std::vector<int32_t> order(kExperts);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](int32_t a, int32_t b) { return from[a] > from[b]; });
    std::sort(order.begin(), order.begin() + 8);
    double sum = 0;
    for (size_t rank = 0; rank < 8; ++rank) {
      ASSERT_EQ(routings[0].ids[row * 8 + rank], order[rank]) << row;
      sum += routings[0].weights[row * 8 + rank];
    }
    ASSERT_NEAR(sum, 1, 1e-6);
  }
}

TEST(Gates, SplitSigmoidAndSharedExpert) {
  std::mt19937 random(kSeed + 8);
  for (const int threads : {1, 3}) {
    MemoryBudget budget;
    const auto backend = MakeCpuBackend(budget, {.threads = threads});
    const StepScope scope(*backend);
    for (const int64_t rows : {1, 5, 90}) {
      const std::vector<float> both = RandomFloats(rows * 4 * 2 * 24, 1.0F, random);
      Tensor a;
      Tensor b;
      backend->SplitHeads(Upload(*backend, both, 4 * 2 * 24), 4, a, b);
      const std::vector<float> first = Download(*backend, a);
      const std::vector<float> second = Download(*backend, b);
      const std::vector<float> gate_values = RandomFloats(rows, 2.0F, random);
      const Tensor gate = Upload(*backend, gate_values, 1);
      backend->SigmoidGateInPlace(a, b);
      const std::vector<float> gated = Download(*backend, a);
      backend->AddGatedInPlace(b, a, gate);
      const std::vector<float> sum = Download(*backend, b);
      for (size_t i = 0; i < first.size(); ++i) {
        const size_t row = i / 96;
        const size_t head = i % 96 / 24;
        ASSERT_EQ(first[i], both[row * 192 + head * 48 + i % 24]);
        ASSERT_EQ(second[i], both[row * 192 + head * 48 + 24 + i % 24]);
        ASSERT_NEAR(gated[i], first[i] / (1 + std::exp(-second[i])), 1e-6);
        ASSERT_NEAR(sum[i], second[i] + gated[i] / (1 + std::exp(-gate_values[row])), 1e-6);
      }
    }
  }
}

}  // namespace
}  // namespace mach::backend
