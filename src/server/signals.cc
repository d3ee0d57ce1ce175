#include "server/signals.h"

#include <array>
#include <cerrno>
#include <csignal>

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "base/error.h"

namespace mach::server {
namespace {

// Signal handlers see only globals. The pipe turns a signal into something that poll waits for.
std::array<int, 2> pipe_ends = {-1, -1};
constexpr char kSignalByte = 's';
constexpr char kWakeByte = 'w';

void WriteByte(char byte) {
  const int saved = errno;
  const ssize_t ignored = write(pipe_ends[1], &byte, 1);
  (void)ignored;  // a full pipe already holds what the reader needs
  errno = saved;
}

void OnSignal(int /*number*/) {
  WriteByte(kSignalByte);
}

}  // namespace

SignalWaiter::SignalWaiter() {
  if (pipe(pipe_ends.data()) != 0) {
    throw Error(ErrorCode::kIo, "cannot create a pipe for signals");
  }
  for (const int end : pipe_ends) {
    fcntl(end, F_SETFL, fcntl(end, F_GETFL) | O_NONBLOCK);
    fcntl(end, F_SETFD, FD_CLOEXEC);
  }
  struct sigaction action {};
  action.sa_handler = &OnSignal;
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  action.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &action, nullptr);
}

SignalWaiter::~SignalWaiter() {
  struct sigaction action {};
  action.sa_handler = SIG_DFL;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  close(pipe_ends[0]);
  close(pipe_ends[1]);
}

bool SignalWaiter::Wait(double timeout_s) {
  pollfd waiting{pipe_ends[0], POLLIN, 0};
  while (true) {
    const int ready = poll(&waiting, 1, timeout_s < 0 ? -1 : static_cast<int>(timeout_s * 1000));
    if (ready == 0) {
      return false;
    }
    char byte = 0;
    if (ready > 0 && read(pipe_ends[0], &byte, 1) == 1) {
      return byte == kSignalByte;
    }
  }
}

void SignalWaiter::Wake() {
  WriteByte(kWakeByte);
}

}  // namespace mach::server
