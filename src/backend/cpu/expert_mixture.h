// Computes the experts of one Mixture-of-Experts layer on the CPU: rows are sorted by expert, so
// that each expert's weights are read once for all rows that use it. Where the weights come from is
// the lease's business. Called by CpuBackend on the inference thread.
#pragma once

#include "backend/backend.h"
#include "backend/cpu/cpu_context.h"

namespace mach::backend {

// See Backend::ExpertMixture. Experts are taken as the lease gives them, a batch at a time, in two
// parallel loops: gate, up, SwiGLU and quantisation, shared out by intermediate outputs; then down
// and the weighted sum, every thread with the same columns of all experts. An expert whose turn in
// the sum has not come, because one before it is still on its way, is kept until it has.
Tensor MixExperts(CpuContext& context, const Tensor& x, const Routing& routing,
                  const ExpertLayout& layout, ExpertLease& lease);

}  // namespace mach::backend
