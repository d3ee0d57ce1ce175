// A fixed team of threads for data-parallel loops of microseconds.
//
// The calling thread is worker 0 and takes part; workers 1..n-1 spin briefly for the next loop and
// then sleep, so a decode step pays about a microsecond per loop and an idle server burns no CPU.
// Work is split by output, never inside a reduction, so results do not depend on the thread count.
// One owner thread calls Run; Run is not reentrant.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace mach {

class ThreadPool {
 public:
  // `threads` >= 1, the caller included. Throws kResourceLimit if the system refuses that many.
  explicit ThreadPool(int threads) : ThreadPool(threads, /*dry=*/false) {}
  // One that says `threads`, has none, and calls no body: what comes between loops can be run
  // without what is done in them.
  static ThreadPool Dry(int threads) { return {threads, /*dry=*/true}; }
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  ~ThreadPool();

  int threads() const { return threads_; }
  bool dry() const { return dry_; }

  // Calls body(worker) once on each worker 0..threads()-1 and returns when all are done. An
  // exception of any of them is rethrown here.
  template <typename Body>
  void Run(const Body& body) {
    if (dry_) {
      return;
    }
    RunErased([](const void* context, int worker) { (*static_cast<const Body*>(context))(worker); },
              &body);
  }

  // Calls body() on the calling thread.
  template <typename Body>
  void RunAlone(const Body& body) {
    if (!dry_) {
      body();
    }
  }

  // Splits [0, count) into one contiguous range per worker, cut at multiples of `grain`, and calls
  // body(begin, end, worker) for the non-empty ones.
  template <typename Body>
  void ParallelFor(int64_t count, int64_t grain, const Body& body) {
    if (dry_) {
      return;
    }
    const int64_t units = (count + grain - 1) / grain;
    const int64_t team = threads();
    if (team == 1 || units <= 1) {
      if (count > 0) {
        body(int64_t{0}, count, 0);
      }
      return;
    }
    Run([&](int worker) {
      const int64_t begin = units * worker / team * grain;
      const int64_t end = std::min(count, units * (worker + 1) / team * grain);
      if (begin < end) {
        body(begin, end, worker);
      }
    });
  }

 private:
  using Entry = void (*)(const void* context, int worker);

  ThreadPool(int threads, bool dry);
  void RunErased(Entry entry, const void* context);
  void WorkerLoop(int worker);
  void Stop();
  void CallGuarded(int worker);

  const int threads_;
  const bool dry_;
  Entry entry_ = nullptr;
  const void* context_ = nullptr;
  // Each loop raises the generation by one; a worker runs when it sees a new one.
  alignas(64) std::atomic<uint64_t> generation_{0};
  alignas(64) std::atomic<int> running_{0};
  std::atomic<int> sleepers_{0};
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
  std::mutex error_mutex_;
  std::exception_ptr error_;
  std::vector<std::thread> workers_;
};

}  // namespace mach
