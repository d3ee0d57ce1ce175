// SIGINT and SIGTERM as something the main thread can wait for. One per process at a time; the
// handlers are installed while it lives, and SIGPIPE is ignored from then on (a closed socket or
// pipe is an error code, not an end).
#pragma once

namespace mach::server {

class SignalWaiter {
 public:
  // Throws kIo if the operating system refuses.
  SignalWaiter();
  SignalWaiter(const SignalWaiter&) = delete;
  SignalWaiter& operator=(const SignalWaiter&) = delete;
  ~SignalWaiter();

  // True if a signal came, false after `timeout_s` (negative = none) or Wake. One thread waits.
  bool Wait(double timeout_s);

  // Ends a Wait from another thread.
  void Wake();
};

}  // namespace mach::server
