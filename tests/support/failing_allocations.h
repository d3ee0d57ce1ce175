// Lets a chosen allocation fail, as on a machine without memory. A program that links this
// allocates through it; other threads than the one that asked are left alone.
#pragma once

#include <cstdint>

namespace mach::testing_support {

// While it lives, of this thread's allocations those before `first` succeed, and the next `count`
// throw std::bad_alloc. At most one lives in each thread.
class FailingAllocations {
 public:
  explicit FailingAllocations(int64_t first, int64_t count = 1);
  FailingAllocations(const FailingAllocations&) = delete;
  FailingAllocations& operator=(const FailingAllocations&) = delete;
  ~FailingAllocations();

  bool failed() const;  // one of them at least
};

}  // namespace mach::testing_support
