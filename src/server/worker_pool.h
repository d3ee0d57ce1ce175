// A few threads for work that is too slow for the I/O thread and is not the engine's: parsing large
// bodies, rendering templates, tokenising. Jobs start in FIFO order. Submit from any thread.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace mach::server {

class WorkerPool {
 public:
  WorkerPool(int threads, size_t max_queued);
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;
  ~WorkerPool();  // Stop()

  // False if the queue is full or the pool has stopped. `job` must not throw.
  bool Submit(std::function<void()> job);

  // Waits for running jobs; drops queued ones.
  void Stop();

 private:
  void Loop();

  const size_t max_queued_;
  std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<std::function<void()>> jobs_;
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace mach::server
