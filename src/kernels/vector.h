// The kernels of kernels.h that are not matrix products, one table per instruction set.
//
// Internal to the module: kernels.cc copies these pointers into the public tables, tests
// call them directly. The definitions of the results stand in kernels.h. Stateless; any
// thread may call.
#pragma once

#include <cstdint>

#include "kernels/kernels.h"
#include "platform/cpu.h"

namespace mach::kernels {

// Storage of 16-bit floats, so that overloads can tell them apart.
struct Bf16 {
  uint16_t bits;
};
struct F16 {
  uint16_t bits;
};

struct VectorTable {
  decltype(KernelTable::rms_norm) rms_norm;
  decltype(KernelTable::add) add;
  decltype(KernelTable::swiglu) swiglu;
  decltype(KernelTable::rope_half) rope_half;
  decltype(KernelTable::store_kv) store_kv;
  decltype(KernelTable::attention) attention;
  decltype(KernelTable::sigmoid) sigmoid;
  decltype(KernelTable::sigmoid_gate) sigmoid_gate;
  decltype(KernelTable::add_scaled) add_scaled;
  decltype(KernelTable::softmax) softmax;
  decltype(KernelTable::conv_silu) conv_silu;
  decltype(KernelTable::l2_norm) l2_norm;
  decltype(KernelTable::delta_gates) delta_gates;
  decltype(KernelTable::gated_delta) gated_delta;
  decltype(KernelTable::delta_replay) delta_replay;
  decltype(KernelTable::block_maxima) block_maxima;
  decltype(KernelTable::tokens_between) tokens_between;
  decltype(KernelTable::token_weights) token_weights;
  decltype(KernelTable::noise_bounds) noise_bounds;
  void (*exp)(const float* x, int64_t n, float* out);       // Exp itself, for tests
  void (*softplus)(const float* x, int64_t n, float* out);  // Softplus itself, for tests
};

// kAmxInt8 has the table of kAvx512Vnni. Sets that were not compiled in (those of the other
// architecture) give the scalar table.
const VectorTable& VectorKernels(Isa isa);

// Sets the entries of `table` that come from here.
void FillVectorEntries(Isa isa, KernelTable& table);

extern const VectorTable kVectorScalar;
#if defined(__x86_64__)
extern const VectorTable kVectorAvx2;
extern const VectorTable kVectorAvx512;
#elif defined(__aarch64__)
extern const VectorTable kVectorNeon;
#endif

// The parts of the attention scratch, all fp32. The layout is the same for every set.
struct AttentionScratch {
  float* q;        // [tile rows, head_dim], interleaved by row group
  float* out;      // [tile rows, head_dim]
  float* weights;  // [row group <= 16, kKvBlockTokens]
  float* lanes;    // [tile rows, 16]: the denominators before their reduction
  float* maxima;   // [tile rows]
  float* keys;     // [head_dim, kKvBlockTokens]
  float* values;   // [kKvBlockTokens, head_dim]

  static constexpr int64_t kMaxGroupRows = 16;
  static constexpr int64_t Floats(int64_t head_dim) {
    return (2 * kAttentionTileRows + 2 * kKvBlockTokens) * head_dim +
           kMaxGroupRows * kKvBlockTokens + kAttentionTileRows * 17;
  }
};

}  // namespace mach::kernels
