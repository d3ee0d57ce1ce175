// The CPU backend: every operation runs at once, on a thread pool, with the kernels of one
// instruction set. The inference thread's own. On a dry budget it is the dry backend
// (backend/dry_backend.h).
#pragma once

#include <memory>

#include "backend/backend.h"
#include "platform/cpu.h"
#include "tensor/memory.h"

namespace mach::backend {

struct CpuOptions {
  int threads = 0;  // 0 = physical cores
  Isa isa = BestIsa();
};

// `budget` must outlive the backend and everything it loaded.
std::unique_ptr<Backend> MakeCpuBackend(MemoryBudget& budget, const CpuOptions& options);

}  // namespace mach::backend
