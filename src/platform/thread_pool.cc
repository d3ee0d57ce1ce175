#include "platform/thread_pool.h"

#include <string>
#include <system_error>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "base/check.h"
#include "base/error.h"

namespace mach {
namespace {

void SpinPause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// An idle worker spins for about 100 us, then gives its core away for about 2 ms more to whoever
// wants it, then sleeps: longer than the gaps inside a decode step and than the wait for an expert
// from disk, shorter than anything a person or a power meter notices. What waking a sleeping thread
// costs streamed decode is in docs/benchmarks.md.
constexpr int kSpins = 4000;
constexpr int kYields = 4000;
// A worker that lost its core (fewer cores than threads) must not stop the caller from running it.
constexpr int kSpinsBeforeYield = 1000;

}  // namespace

ThreadPool::ThreadPool(int threads, bool dry) : threads_(threads), dry_(dry) {
  MACH_CHECK(threads >= 1);
  if (dry) {
    return;
  }
  workers_.reserve(static_cast<size_t>(threads - 1));
  try {
    for (int worker = 1; worker < threads; ++worker) {
      workers_.emplace_back([this, worker] { WorkerLoop(worker); });
    }
  } catch (const std::system_error& error) {
    const auto started = std::to_string(workers_.size() + 1);
    Stop();
    throw Error(ErrorCode::kResourceLimit,
                "cannot start " + std::to_string(threads) + " compute threads: " + error.what(),
                "--threads " + started + ", or a higher limit of processes (ulimit -u)");
  }
}

ThreadPool::~ThreadPool() {
  Stop();
}

void ThreadPool::Stop() {
  {
    const std::lock_guard lock(mutex_);
    stop_.store(true);
    generation_.fetch_add(1);
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) {
    worker.join();
  }
}

void ThreadPool::CallGuarded(int worker) {
  try {
    entry_(context_, worker);
  } catch (...) {
    const std::lock_guard lock(error_mutex_);
    if (!error_) {
      error_ = std::current_exception();
    }
  }
}

void ThreadPool::RunErased(Entry entry, const void* context) {
  entry_ = entry;
  context_ = context;
  running_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
  // Sequentially consistent on both sides: either the worker counts itself a sleeper before this
  // read of sleepers_, or it sees the new generation before it sleeps.
  generation_.fetch_add(1);
  if (sleepers_.load() > 0) {
    const std::lock_guard lock(mutex_);
    wake_.notify_all();
  }
  CallGuarded(0);
  int spins = 0;
  while (running_.load(std::memory_order_acquire) != 0) {
    if (++spins > kSpinsBeforeYield) {
      std::this_thread::yield();
    } else {
      SpinPause();
    }
  }
  if (error_) {
    std::exception_ptr error;
    std::swap(error, error_);
    std::rethrow_exception(error);
  }
}

void ThreadPool::WorkerLoop(int worker) {
  uint64_t seen = 0;
  while (true) {
    int spins = 0;
    while (generation_.load() == seen) {
      if (++spins < kSpins) {
        SpinPause();
        continue;
      }
      if (spins < kSpins + kYields) {
        std::this_thread::yield();
        continue;
      }
      std::unique_lock lock(mutex_);
      sleepers_.fetch_add(1);
      wake_.wait(lock, [&] { return generation_.load() != seen; });
      sleepers_.fetch_sub(1);
    }
    if (stop_.load()) {
      return;
    }
    ++seen;
    CallGuarded(worker);
    running_.fetch_sub(1, std::memory_order_release);
  }
}

}  // namespace mach
