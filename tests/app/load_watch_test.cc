#include "app/load_watch.h"

#include <atomic>
#include <stdexcept>
#include <thread>

#include <gtest/gtest.h>

namespace mach::app {
namespace {

constexpr double kOften = 1e-3;

void WaitUntil(const std::atomic<int>& calls, int wanted) {
  while (calls.load() < wanted) {
    std::this_thread::yield();
  }
}

TEST(LoadWatch, EndsWithTheFinalState) {
  loading::LoadProgress progress;
  progress.bytes_total = 10;
  std::atomic<int> calls{0};
  uint64_t last = 0;
  {
    const LoadWatch watch(progress, kOften, [&](uint64_t done, uint64_t total) {
      EXPECT_EQ(total, 10U);
      EXPECT_LE(done, total);
      last = done;
      ++calls;
    });
    WaitUntil(calls, 1);
    progress.bytes_done = 11;  // never shown as more than all
  }
  EXPECT_EQ(last, 10U);
}

TEST(LoadWatch, IsSilentForALoadThatIsOverAtOnce) {
  loading::LoadProgress progress;
  progress.bytes_total = 10;
  int calls = 0;
  {
    const LoadWatch watch(progress, 3600, [&](uint64_t, uint64_t) { ++calls; });
  }
  EXPECT_EQ(calls, 0);
}

TEST(LoadWatch, SurvivesADisplayThatThrows) {
  loading::LoadProgress progress;
  progress.bytes_total = 10;
  std::atomic<int> calls{0};
  {
    const LoadWatch watch(progress, kOften, [&](uint64_t, uint64_t) {
      ++calls;
      throw std::runtime_error("no terminal");
    });
    WaitUntil(calls, 1);
  }
  EXPECT_EQ(calls.load(), 1);
}

}  // namespace
}  // namespace mach::app
