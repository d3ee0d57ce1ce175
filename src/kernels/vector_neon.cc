// The kernels of vector.h for one instruction set. This file is compiled for that set alone.
#include "base/check.h"
#include "kernels/vector.h"

// Each of these builds on the one before.
// clang-format off
#include "kernels/simd_neon.h"
#include "kernels/simd-inl.h"
#include "kernels/vector-inl.h"
#include "kernels/attention_tile-inl.h"
#include "kernels/attention-inl.h"
#include "kernels/gated_delta-inl.h"
#include "kernels/choice-inl.h"
#include "kernels/vector_table-inl.h"
// clang-format on

namespace mach::kernels {

const VectorTable kVectorNeon = MACH_SIMD::kTable;

}  // namespace mach::kernels
