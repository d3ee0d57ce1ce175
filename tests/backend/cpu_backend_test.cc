#include "backend/cpu/cpu_backend.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "backend/cpu/arena.h"
#include "backend/cpu/cpu_context.h"
#include "base/error.h"
#include "tests/backend/backend_test_util.h"

namespace mach::backend {
namespace {

TEST(Arena, RewindsAndReusesItsMemory) {
  MemoryBudget budget;
  Arena arena(budget);
  const uint64_t start = arena.Mark();
  auto* a = arena.Allocate<float>(10);
  const uint64_t mark = arena.Mark();
  auto* b = arena.Allocate<float>(1000);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(b) % 64, 0U);
  arena.Release(mark);
  EXPECT_EQ(arena.Allocate<float>(7), b);
  arena.Release(start);
  // Larger than a chunk, several times over: later rounds allocate nothing.
  uint64_t after_first = 0;
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 5; ++i) {
      auto* big = arena.Allocate<float>(400000);
      big[399999] = 1;
    }
    arena.Release(start);
    EXPECT_EQ(arena.Allocate<float>(10), a);
    arena.Release(start);
    after_first = round == 0 ? budget.TotalBytes() : after_first;
    EXPECT_EQ(budget.TotalBytes(), after_first);
  }
}

TEST(Arena, NestedReleasesAcrossChunks) {
  MemoryBudget budget;
  Arena arena(budget);
  std::vector<uint64_t> marks;
  std::vector<float*> blocks;
  for (int i = 0; i < 20; ++i) {
    marks.push_back(arena.Mark());
    blocks.push_back(arena.Allocate<float>(100000 + i * 7777));
    blocks.back()[0] = static_cast<float>(i);
  }
  for (int i = 19; i >= 10; --i) {
    arena.Release(marks[static_cast<size_t>(i)]);
  }
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(blocks[static_cast<size_t>(i)][0], static_cast<float>(i));
  }
  EXPECT_EQ(arena.Allocate<float>(100000 + 10 * 7777), blocks[10]);
}

TEST(CpuKvStore, GrowsInBlocksAndReturnsThem) {
  MemoryBudget budget;
  const auto backend = MakeCpuBackend(budget, {.threads = 1});
  const KvShape shape{.layers = 3, .kv_heads = 2, .head_dim = 16, .dtype = DType::kBF16};
  const auto pool = backend->NewKvPool(shape);
  const auto kv = pool->NewStore();
  constexpr uint64_t kBlock = 32ULL * 2 * 16 * 2 * 2 * 3;  // tokens, heads, dim, bf16, k+v, layers
  kv->Reserve(0, 1);
  EXPECT_EQ(kv->bytes(), kBlock);
  kv->Reserve(1, 33);
  EXPECT_EQ(kv->bytes(), 2 * kBlock);
  kv->Reserve(9, 10);  // never shrinks
  EXPECT_EQ(kv->bytes(), 2 * kBlock);
  kv->Truncate(32);
  EXPECT_EQ(kv->bytes(), kBlock);
  const uint64_t total = budget.TotalBytes();
  const auto other = pool->NewStore();
  other->Reserve(0, 20);  // takes the block that the first gave back
  EXPECT_EQ(budget.TotalBytes(), total);
}

TEST(CpuKvStore, ModelsOfOneBackendHaveTheirOwnShapes) {
  MemoryBudget budget;
  const auto backend = MakeCpuBackend(budget, {.threads = 1});
  const auto large = backend->NewKvPool({.layers = 2, .kv_heads = 4, .head_dim = 32})->NewStore();
  const auto small = backend->NewKvPool({.layers = 1, .kv_heads = 2, .head_dim = 16})->NewStore();
  large->Reserve(0, 1);
  small->Reserve(0, 1);
  EXPECT_EQ(large->bytes(), 32ULL * 4 * 32 * 2 * 2 * 2);
  EXPECT_EQ(small->bytes(), 32ULL * 2 * 16 * 2 * 2 * 1);
}

// What is shared is counted once, and copied once it is to be written.
TEST(CpuKvStore, ForksShareFullBlocksUntilOneWrites) {
  MemoryBudget budget;
  const auto backend = MakeCpuBackend(budget, {.threads = 1});
  const KvShape shape{.layers = 1, .kv_heads = 2, .head_dim = 16};
  constexpr uint64_t kBlock = 32ULL * 2 * 16 * 2 * 2;
  const uint64_t booked = Buffer::BookedBytes(kBlock);
  const auto kv = backend->NewKvPool(shape)->NewStore();
  kv->Reserve(0, 80);
  EXPECT_EQ(kv->unshared_bytes(), 3 * kBlock);
  const auto fork = kv->Fork(80);
  EXPECT_EQ(fork->bytes(), 3 * kBlock);
  EXPECT_EQ(fork->unshared_bytes(), kBlock) << "the block that is not full is a copy";
  EXPECT_EQ(kv->unshared_bytes(), kBlock);
  EXPECT_EQ(budget.TotalBytes(), 4 * booked);
  fork->Reserve(80, 200);
  EXPECT_EQ(fork->unshared_bytes(), 5 * kBlock);
  fork->Truncate(40);
  EXPECT_EQ(fork->unshared_bytes(), 0U);
  kv->Reserve(80, 90);
  EXPECT_EQ(kv->unshared_bytes(), kBlock) << "nothing shared is written";
  fork->Reserve(40, 41);
  EXPECT_EQ(fork->unshared_bytes(), kBlock);
  EXPECT_EQ(kv->unshared_bytes(), 2 * kBlock);
  EXPECT_EQ(kv->Fork(64)->unshared_bytes(), 0U) << "nothing needs a copy";
}

TEST(CpuKvStore, StopsAtTheCeilingAndStaysUsable) {
  MemoryBudget budget(64 << 10);
  const auto backend = MakeCpuBackend(budget, {.threads = 1});
  const auto kv = backend->NewKvPool({.layers = 2, .kv_heads = 2, .head_dim = 32})->NewStore();
  kv->Reserve(0, 32);
  const uint64_t before = kv->bytes();
  EXPECT_THROW(kv->Reserve(32, 100000), Error);
  kv->Truncate(32);
  EXPECT_EQ(kv->bytes(), before);
}

// Threads cut the strips of several weights into equal bytes; no cut may lose or repeat a strip.
TEST(CpuBackend, LinearGroupsGiveTheSameForAnyThreadCount) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  constexpr int64_t kIn = 64;
  const std::array<int64_t, 4> outs = {16, 200, 1, 77};
  std::vector<std::vector<float>> weights;
  for (const int64_t out : outs) {
    weights.emplace_back(static_cast<size_t>(out * kIn));
    for (float& w : weights.back()) {
      w = normal(random);
    }
  }
  std::vector<std::vector<float>> want;
  for (const int threads : {1, 2, 3, 5, 8}) {
    MemoryBudget budget;
    const auto backend = MakeCpuBackend(budget, {.threads = threads});
    std::vector<std::unique_ptr<LinearWeight>> loaded;
    std::vector<const LinearWeight*> pointers;
    for (size_t i = 0; i < outs.size(); ++i) {
      loaded.push_back(backend->LoadLinear(
          {.out_features = outs[i],
           .in_features = kIn,
           .dense = TensorView{DType::kF32, {outs[i], kIn}, std::as_bytes(std::span(weights[i]))}},
          "weights"));
      pointers.push_back(loaded.back().get());
    }
    const StepScope scope(*backend);
    const std::array<int32_t, 3> ids = {0, 7, 15};  // rows of the first weight as inputs
    const Tensor x = backend->Embed(*loaded[0], ids);
    std::array<Tensor, 4> y;
    backend->Linear(x, pointers, y);
    for (size_t i = 0; i < y.size(); ++i) {
      const auto values = backend->Read(y[i]);
      if (threads == 1) {
        want.emplace_back(values.begin(), values.end());
      } else {
        EXPECT_EQ(std::vector<float>(values.begin(), values.end()), want[i])
            << threads << " threads, weight " << i;
      }
    }
  }
}

// Long operations are cut into blocks, so that they can be cancelled; no cut may change a bit.
class LongSteps : public testing::TestWithParam<int> {
 protected:
  // Values in [-1, 1), the same ones for every call.
  Tensor Values(int64_t rows, int64_t cols) {
    std::mt19937 random(9);
    std::uniform_real_distribution<float> uniform(-1, 1);
    std::vector<float> values(static_cast<size_t>(rows * cols));
    for (float& value : values) {
      value = uniform(random);
    }
    return Upload(*backend_, values, cols);
  }

  // What is left of x once the rows before `first` and from `first + rows` on are gone.
  Tensor Part(const Tensor& x, int64_t first, int64_t rows) {
    std::vector<int64_t> wanted(static_cast<size_t>(rows));
    std::iota(wanted.begin(), wanted.end(), first);
    return backend_->TakeRows(x, wanted);
  }

  // f(x) equals f of its rows, 512 at a time.
  template <typename Body>
  void ExpectTheSameInParts(const Tensor& x, const Body& f) {
    const std::vector<float> whole = Download(*backend_, f(x, 0));
    std::vector<float> parts;
    for (int64_t first = 0; first < x.rows; first += 512) {
      const Tensor part = Part(x, first, std::min<int64_t>(512, x.rows - first));
      const std::vector<float> values = Download(*backend_, f(part, first));
      parts.insert(parts.end(), values.begin(), values.end());
    }
    ExpectSame(whole, parts, "parts");
  }

  MemoryBudget budget_;
  std::unique_ptr<Backend> backend_ = MakeCpuBackend(budget_, {.threads = GetParam()});
};

TEST_P(LongSteps, LinearLayersGiveTheSameInParts) {
  std::vector<float> weights(48 * 64);
  for (size_t i = 0; i < weights.size(); ++i) {
    weights[i] = static_cast<float>(i % 13) - 6;
  }
  const auto weight = backend_->LoadLinear(
      {.out_features = 48,
       .in_features = 64,
       .dense = TensorView{DType::kF32, {48, 64}, std::as_bytes(std::span(weights))}},
      "weights");
  ExpectTheSameInParts(Values(2500, 64), [&](const Tensor& x, int64_t) {
    const LinearWeight* const one = weight.get();
    Tensor out;
    backend_->Linear(x, std::span(&one, 1), std::span(&out, 1));
    return out;
  });
}

TEST_P(LongSteps, AttentionGivesTheSameInParts) {
  constexpr int64_t kRows = 4096;
  const AttentionSpec spec{.q_heads = 6, .head_dim = 64, .scale = 0.125F};
  const auto kv = backend_->NewKvPool({.layers = 1, .kv_heads = 2, .head_dim = 64})->NewStore();
  kv->Reserve(0, kRows);
  const Tensor keys = Values(kRows, 128);
  // Of three threads the last one gets the fewest rows, over a sixth.
  ASSERT_GE(kRows / 6.0 * 6 * 2 * kRows * 64, CpuContext::kWorkPerLook) << "nothing is cut";
  ExpectTheSameInParts(Values(kRows, 384), [&](const Tensor& q, int64_t first) {
    const Tensor k = Part(keys, first, q.rows);
    const RowSpan span{.kv = kv.get(), .rows = q.rows, .first_position = first};
    return backend_->Attention(q, k, k, 0, spec, std::span(&span, 1));
  });
}

// Sequences of all lengths in one step, from single rows to long chunks, some of them cut between
// heads and some between rows: each gets what it gets alone on one thread.
TEST_P(LongSteps, AttentionOfABatchIsThatOfEachSequenceAlone) {
  struct Part {
    int64_t before, rows;
  };
  const std::vector<std::vector<Part>> batches = {
      {{0, 1}, {700, 1}, {31, 1}, {32, 1}, {33, 1}, {64, 1}, {1000, 1}, {5, 1}},
      {{0, 300}, {500, 1}, {64, 100}, {31, 2}, {0, 1}, {90, 17}},
      {{10, 60}},
      {{3, 1}},
  };
  const AttentionSpec spec{.q_heads = 6, .head_dim = 16, .scale = 0.25F};
  const KvShape shape{.layers = 1, .kv_heads = 2, .head_dim = 16};
  MemoryBudget lone_budget;
  const auto lone = MakeCpuBackend(lone_budget, {.threads = 1});
  for (const auto& batch : batches) {
    // What the sequences hold before the step, and the rows of the step.
    std::mt19937 random(31);
    int64_t rows = 0;
    std::vector<std::vector<float>> old_keys;
    for (const Part& part : batch) {
      old_keys.push_back(RandomFloats(part.before * 32, 1.0F, random));
      rows += part.rows;
    }
    const auto q = RandomFloats(rows * 96, 2.0F, random);
    const auto kv = RandomFloats(rows * 32, 1.0F, random);
    const auto rows_of = [](const std::vector<float>& all, int64_t cols, int64_t first,
                            int64_t count) {
      return std::vector<float>(all.begin() + first * cols, all.begin() + (first + count) * cols);
    };
    const auto fill = [&](Backend& backend, KvStore& store, size_t i) {
      store.Reserve(0, batch[i].before + batch[i].rows);
      if (batch[i].before > 0) {
        const StepScope scope(backend);
        const Tensor x = Upload(backend, old_keys[i], 32);
        const Tensor q_rows =
            Upload(backend, std::vector<float>(static_cast<size_t>(x.rows * 96)), 96);
        const RowSpan span{.kv = &store, .rows = x.rows};
        backend.Attention(q_rows, x, x, 0, spec, std::span(&span, 1));
      }
    };

    const auto pool = backend_->NewKvPool(shape);
    const auto lone_pool = lone->NewKvPool(shape);
    std::vector<std::unique_ptr<KvStore>> stores;
    std::vector<RowSpan> spans;
    std::vector<float> want;
    int64_t first = 0;
    for (size_t i = 0; i < batch.size(); ++i) {
      stores.push_back(pool->NewStore());
      fill(*backend_, *stores.back(), i);
      spans.push_back({.kv = stores.back().get(),
                       .first_row = first,
                       .rows = batch[i].rows,
                       .first_position = batch[i].before});
      const auto store = lone_pool->NewStore();
      fill(*lone, *store, i);
      const StepScope scope(*lone);
      const Tensor x = Upload(*lone, rows_of(kv, 32, first, batch[i].rows), 32);
      const RowSpan span{
          .kv = store.get(), .rows = batch[i].rows, .first_position = batch[i].before};
      const auto part =
          Download(*lone, lone->Attention(Upload(*lone, rows_of(q, 96, first, batch[i].rows), 96),
                                          x, x, 0, spec, std::span(&span, 1)));
      want.insert(want.end(), part.begin(), part.end());
      first += batch[i].rows;
    }
    const StepScope scope(*backend_);
    const Tensor x = Upload(*backend_, kv, 32);
    ExpectSame(
        Download(*backend_, backend_->Attention(Upload(*backend_, q, 96), x, x, 0, spec, spans)),
        want, std::to_string(batch.size()) + " sequences");
  }
}

TEST_P(LongSteps, ACancelledOperationThrowsAndTheNextStepRuns) {
  const Tensor x = Values(64, 64);
  const auto kv = backend_->NewKvPool({.layers = 1, .kv_heads = 2, .head_dim = 32})->NewStore();
  kv->Reserve(0, 64);
  const RowSpan span{.kv = kv.get(), .rows = 64};
  const auto attend = [&] {
    return backend_->Attention(x, x, x, 0, {.q_heads = 2, .head_dim = 32, .scale = 1},
                               std::span(&span, 1));
  };
  const std::atomic<bool> cancel{true};
  {
    const CancelScope cancellable(*backend_, &cancel);
    try {
      attend();
      ADD_FAILURE() << "was not cancelled";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kCancelled);
    }
  }
  attend();
}

TEST_P(LongSteps, CancelScopesNest) {
  const Tensor x = Values(4, 16);
  const std::vector<float> table(48 * 16);
  const auto linear = backend_->LoadLinear(
      {.out_features = 48,
       .in_features = 16,
       .dense = TensorView{DType::kF32, {48, 16}, std::as_bytes(std::span(table))}},
      "weights");
  const auto run = [&] {
    const LinearWeight* const one = linear.get();
    Tensor out;
    backend_->Linear(x, std::span(&one, 1), std::span(&out, 1));
  };
  const std::atomic<bool> outer{true};
  const std::atomic<bool> inner{false};
  {
    const CancelScope around(*backend_, &outer);
    {
      const CancelScope within(*backend_, &inner);
      EXPECT_NO_THROW(run()) << "the inner flag alone is watched";
    }
    EXPECT_THROW(run(), Error) << "the outer flag is forgotten";
  }
  EXPECT_NO_THROW(run());
}

INSTANTIATE_TEST_SUITE_P(Threads, LongSteps, testing::Values(1, 2, 3, 8));

}  // namespace
}  // namespace mach::backend
