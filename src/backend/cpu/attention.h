// Causal attention on the CPU.
#pragma once

#include <span>

#include "backend/backend.h"
#include "backend/cpu/cpu_context.h"

namespace mach::backend {

// See Backend::Attention. The sequences of a step are one list of work that is cut into equal parts
// for the threads: between heads where a sequence has few rows, between rows where it has many. So
// one step of decoding with many sequences is one parallel loop.
Tensor AttendStep(CpuContext& context, const Tensor& q, const Tensor& k, const Tensor& v,
                  int32_t layer, const AttentionSpec& spec, std::span<const RowSpan> spans);

}  // namespace mach::backend
