// Work in a child process: to kill it, or to measure the memory it takes.
#pragma once

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <functional>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "platform/process_memory.h"

namespace mach::convert {

// Runs `work` in a child process; whether it ended by itself rather than by SIGKILL.
inline bool RunChild(const std::function<void()>& work) {
  const pid_t child = ::fork();
  if (child == 0) {
    try {
      work();
    } catch (...) {
      ::_exit(1);
    }
    ::_exit(0);
  }
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status) || (WIFEXITED(status) && WEXITSTATUS(status) == 0));
  return WIFEXITED(status);
}

// That the peak of memory during `work`, over what there is before, is at most `limit_bytes`. Not
// with sanitizers.
inline void ExpectPeakBelow(uint64_t limit_bytes, const std::function<void()>& work) {
  EXPECT_TRUE(RunChild([&] {
    std::ofstream("/proc/self/clear_refs") << "5";  // the peak starts from here
    const uint64_t before = ReadProcessMemory().rss_bytes;
    work();
    const uint64_t grown = ReadProcessMemory().peak_rss_bytes - before;
    std::printf("the peak grew by %llu MiB\n", static_cast<unsigned long long>(grown >> 20));
    std::fflush(stdout);
    if (grown > limit_bytes) {
      throw Error(ErrorCode::kInternal, "too much memory");
    }
  }));
}

}  // namespace mach::convert
