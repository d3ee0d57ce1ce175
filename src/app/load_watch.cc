#include "app/load_watch.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <utility>

#include <unistd.h>

#include "app/progress_bar.h"
#include "base/gigabytes.h"
#include "base/log.h"

namespace mach::app {

LoadWatch::LoadWatch(const loading::LoadProgress& progress, double seconds, Show show)
    : thread_(
          [this, &progress, seconds, show = std::move(show)] { Run(progress, seconds, show); }) {}

LoadWatch::~LoadWatch() {
  {
    const std::lock_guard lock(mutex_);
    done_ = true;
  }
  ended_.notify_one();
  thread_.join();
}

void LoadWatch::Run(const loading::LoadProgress& progress, double seconds,
                    const Show& show) noexcept try {
  bool shown = false;
  const auto show_now = [&] {
    if (const uint64_t total = progress.bytes_total.load(); total > 0) {
      show(std::min(progress.bytes_done.load(), total), total);
      shown = true;
    }
  };
  std::unique_lock lock(mutex_);
  while (!ended_.wait_for(lock, std::chrono::duration<double>(seconds), [this] { return done_; })) {
    show_now();
  }
  if (shown) {
    show_now();
  }
} catch (...) {
  // Loading goes on unseen.
}

LoadWatch::Show LoadingBar() {
  if (::isatty(STDERR_FILENO) != 1) {
    return [](uint64_t, uint64_t) {};
  }
  return [bar = std::make_shared<ProgressBar>("loading")](uint64_t done, uint64_t total) {
    bar->Update(done, total);
  };
}

LoadWatch::Show LoadingLog() {
  return [](uint64_t done, uint64_t total) {
    LogInfo("loading", {{"percent", static_cast<int64_t>(100 * done / total)},
                        {"loaded", GigabytesText(done)},
                        {"of", GigabytesText(total)}});
  };
}

}  // namespace mach::app
