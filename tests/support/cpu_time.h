// Processor time for tests: what neighbours on the machine do does not count.
#pragma once

#include <ctime>

namespace mach::testing_support {

inline double SecondsOf(clockid_t clock) {
  timespec now = {};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// Of the calling thread.
inline double ThreadCpuSeconds() {
  return SecondsOf(CLOCK_THREAD_CPUTIME_ID);
}

// Of all threads together.
inline double ProcessCpuSeconds() {
  return SecondsOf(CLOCK_PROCESS_CPUTIME_ID);
}

}  // namespace mach::testing_support
