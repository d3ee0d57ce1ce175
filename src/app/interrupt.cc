#include "app/interrupt.h"

#include <atomic>
#include <csignal>

#include "base/error.h"

namespace mach::app {
namespace {

std::atomic<bool> g_interrupted{false};

}  // namespace

void CatchInterrupts() {
  std::signal(SIGINT, [](int) {
    g_interrupted.store(true);
    std::signal(SIGINT, SIG_DFL);
  });
}

bool Interrupted() {
  return g_interrupted.load();
}

void ThrowIfInterrupted() {
  if (Interrupted()) {
    throw Error(ErrorCode::kCancelled, "interrupted",
                "run the same command again to go on where it stopped");
  }
}

}  // namespace mach::app
