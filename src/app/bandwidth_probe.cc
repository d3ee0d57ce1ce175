#include "app/bandwidth_probe.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>

#include "base/clock.h"
#include "platform/thread_pool.h"
#include "tensor/memory.h"

namespace mach::app {
namespace {

constexpr int64_t kProbeBytes = int64_t{512} << 20;
constexpr int kPasses = 4;

// Eight sums so that the adds never hold up the loads.
uint64_t Sum(const uint64_t* words, int64_t count) {
  std::array<uint64_t, 8> sums = {};
  for (int64_t i = 0; i + 8 <= count; i += 8) {
    for (size_t lane = 0; lane < 8; ++lane) {
      sums[lane] += words[i + static_cast<int64_t>(lane)];
    }
  }
  uint64_t total = 0;
  for (const uint64_t sum : sums) {
    total += sum;
  }
  return total;
}

}  // namespace

double ProbeReadBandwidth(int threads) {
  MemoryBudget budget;
  Buffer memory(budget, "probe", kProbeBytes);
  ThreadPool pool(threads);
  const int64_t words = kProbeBytes / static_cast<int64_t>(sizeof(uint64_t));
  pool.ParallelFor(words, 512, [&](int64_t begin, int64_t end, int) {
    std::fill(memory.As<uint64_t>().begin() + begin, memory.As<uint64_t>().begin() + end, 1);
  });
  std::atomic<uint64_t> total{0};  // keeps the reads
  double best_s = 1e9;
  for (int pass = 0; pass < kPasses; ++pass) {
    const Stopwatch watch;
    pool.ParallelFor(words, 512, [&](int64_t begin, int64_t end, int) {
      total.fetch_add(Sum(memory.As<uint64_t>().data() + begin, end - begin));
    });
    best_s = std::min(best_s, watch.ElapsedSeconds());
  }
  return total.load() > 0 ? static_cast<double>(kProbeBytes) / best_s / 1e9 : 0;
}

}  // namespace mach::app
