// Chooses the experts of each row of a Mixture-of-Experts layer on the CPU, from the router's
// logits. Called by CpuBackend on the inference thread.
#pragma once

#include "backend/backend.h"
#include "backend/cpu/cpu_context.h"

namespace mach::backend {

// See Backend::Route. Ranks are found by probability, larger first, of equals the lower index;
// the weights are divided by their sum in that order; then the ranks are put in order of expert.
Routing RouteRows(CpuContext& context, const Tensor& logits, const RouterSpec& spec);

}  // namespace mach::backend
