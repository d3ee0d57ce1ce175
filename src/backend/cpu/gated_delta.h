// The recurrent layer of hybrid models (Gated DeltaNet) on the CPU: convolution, delta rule and
// output norm in one operation. The arithmetic is in kernels/, the state in the sequence's
// RecurrentStore. Called by CpuBackend on the inference thread.
#pragma once

#include <cstdint>
#include <span>

#include "backend/backend.h"
#include "backend/cpu/cpu_context.h"

namespace mach::backend {

// See Backend::GatedDelta. The threads share the v heads: a head goes from the convolution to its
// normed output on one thread, a chunk of tokens at a time, so that what it passes on stays in the
// nearer caches.
Tensor GatedDeltaLayer(CpuContext& context, const GatedDeltaInput& input,
                       const GatedDeltaWeights& weights, const GatedDeltaSpec& spec, int32_t layer,
                       std::span<const RowSpan> spans);

}  // namespace mach::backend
