// A backend that computes nothing: it books what the CPU backend would allocate for the same calls
// and touches neither weights nor memory. A model built on it, with a state and a step run through
// it, leaves the prediction in the budget, by owner: to the byte, but for the activations of expert
// mixtures, which it bounds from above (tests/loading/memory_plan_test holds it against the CPU
// backend). The values of its tensors do not exist; Read gives zeros.
#pragma once

#include <cstdint>
#include <memory>

#include "backend/backend.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/experts.h"
#include "tensor/memory.h"

namespace mach::backend {

class DryBackend : public Backend {
 public:
  // The most bytes of activations that were alive at a time since the last call: what
  // ReserveActivations needs.
  virtual uint64_t TakePeakActivationBytes() = 0;
};

// `budget` must outlive the backend and everything it loaded. Options as those of the CPU backend
// that is predicted.
std::unique_ptr<DryBackend> MakeDryBackend(MemoryBudget& budget, const CpuOptions& options);

// Experts for a model on a dry backend: they have a layout, and no records.
std::unique_ptr<ExpertSource> MakeDryExperts(const ExpertLayout& layout, int32_t layers,
                                             int32_t experts);

}  // namespace mach::backend
