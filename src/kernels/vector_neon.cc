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
// clang-format on

namespace mach::kernels {

const VectorTable kVectorNeon = {
    MACH_SIMD::RmsNorm, MACH_SIMD::AddRows,   MACH_SIMD::SwiGlu, MACH_SIMD::RopeHalf,
    MACH_SIMD::StoreKv, MACH_SIMD::Attention, MACH_SIMD::ExpRow,
};

}  // namespace mach::kernels
