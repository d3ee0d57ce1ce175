// A backend that computes nothing: the CPU backend with its own operations and stores, on a budget
// without memory and with threads that run nothing. A model built on it, with its sequences and a
// step run through it, leaves in the budget, by owner, what the CPU backend would have booked, to
// the byte, and in TakePeakActivationBytes the most activations. Where routing decides, those are
// bounded from above: all rows are supposed to use the same experts, which come in ascending order.
//
// Two things differ. Activations are counted and not booked, until they are reserved; keys and
// values that a sequence gives back are no longer booked, so that each question starts from
// nothing. Weights and tensors have no values: Read is a bug.
#pragma once

#include <cstdint>
#include <memory>

#include "backend/backend.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/experts.h"
#include "tensor/memory.h"

namespace mach::backend {

// `budget` is a dry one and must outlive the backend and everything it loaded. Options as those of
// the CPU backend that is predicted.
std::unique_ptr<Backend> MakeDryBackend(MemoryBudget& budget, const CpuOptions& options);

// Experts for a model on a dry backend: they have a layout, and no records.
std::unique_ptr<ExpertSource> MakeDryExperts(const ExpertLayout& layout, int32_t layers,
                                             int32_t experts);

}  // namespace mach::backend
