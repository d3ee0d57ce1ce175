// A handle to activations inside a running step. What stands behind it is the backend's business:
// memory of an arena on the CPU, a node of a lazy graph elsewhere.
#pragma once

#include <cstdint>

namespace mach::backend {

// A matrix of activations, [rows, cols]. Copyable; valid until the StepScope it was made in ends.
struct Tensor {
  int64_t rows = 0;
  int64_t cols = 0;
  uintptr_t handle = 0;
};

}  // namespace mach::backend
