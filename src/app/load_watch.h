// Shows how far the loading of a model is while it runs on another thread: a bar where a person
// waits for it, log lines where a server starts.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>

#include "loading/runnable_model.h"

namespace mach::app {

class LoadWatch {
 public:
  using Show = std::function<void(uint64_t done_bytes, uint64_t total_bytes)>;

  // Calls `show` every `seconds` until destroyed, on a thread of its own, and after that, if it was
  // called at all, once more with how far loading came. If it throws it is not called again.
  // `progress` must outlive this.
  LoadWatch(const loading::LoadProgress& progress, double seconds, Show show);
  LoadWatch(const LoadWatch&) = delete;
  LoadWatch& operator=(const LoadWatch&) = delete;
  ~LoadWatch();

 private:
  void Run(const loading::LoadProgress& progress, double seconds, const Show& show) noexcept;

  std::mutex mutex_;
  std::condition_variable ended_;
  bool done_ = false;
  std::thread thread_;  // last: it uses everything above
};

// For people who wait: a bar on stderr if that is a terminal, to be redrawn this often.
inline constexpr double kLoadingBarSeconds = 0.2;
LoadWatch::Show LoadingBar();

// For servers: a line of the log.
LoadWatch::Show LoadingLog();

}  // namespace mach::app
