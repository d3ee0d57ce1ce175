#include "backend/cpu/cpu_backend.h"

#include <array>
#include <cstring>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "backend/cpu/arena.h"
#include "base/error.h"

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
  const auto kv = backend->NewKvStore(shape);
  constexpr uint64_t kBlock = 32ULL * 2 * 16 * 2 * 2 * 3;  // tokens, heads, dim, bf16, k+v, layers
  kv->Reserve(1);
  EXPECT_EQ(kv->bytes(), kBlock);
  kv->Reserve(33);
  EXPECT_EQ(kv->bytes(), 2 * kBlock);
  kv->Reserve(10);  // never shrinks
  EXPECT_EQ(kv->bytes(), 2 * kBlock);
  kv->Truncate(32);
  EXPECT_EQ(kv->bytes(), kBlock);
  const uint64_t total = budget.TotalBytes();
  const auto other = backend->NewKvStore(shape);
  other->Reserve(20);  // takes the block that the first gave back
  EXPECT_EQ(budget.TotalBytes(), total);
}

TEST(CpuKvStore, StopsAtTheCeilingAndStaysUsable) {
  MemoryBudget budget(64 << 10);
  const auto backend = MakeCpuBackend(budget, {.threads = 1});
  const auto kv = backend->NewKvStore({.layers = 2, .kv_heads = 2, .head_dim = 32});
  kv->Reserve(32);
  const uint64_t before = kv->bytes();
  EXPECT_THROW(kv->Reserve(100000), Error);
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

}  // namespace
}  // namespace mach::backend
