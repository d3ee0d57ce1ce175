#include "kernels/vector.h"

namespace mach::kernels {

const VectorTable& VectorKernels(Isa isa) {
  switch (isa) {
#if defined(__x86_64__)
    case Isa::kAvx2:
      return kVectorAvx2;
    case Isa::kAvx512Vnni:
    case Isa::kAmxInt8:
      return kVectorAvx512;
#elif defined(__aarch64__)
    case Isa::kNeonDot:
      return kVectorNeon;
#endif
    default:
      return kVectorScalar;
  }
}

void FillVectorEntries(Isa isa, KernelTable& table) {
  const VectorTable& vector = VectorKernels(isa);
  table.rms_norm = vector.rms_norm;
  table.add = vector.add;
  table.swiglu = vector.swiglu;
  table.rope_half = vector.rope_half;
  table.store_kv = vector.store_kv;
  table.attention = vector.attention;
  table.sigmoid = vector.sigmoid;
  table.sigmoid_gate = vector.sigmoid_gate;
  table.add_scaled = vector.add_scaled;
  table.softmax = vector.softmax;
  table.conv_silu = vector.conv_silu;
  table.l2_norm = vector.l2_norm;
  table.delta_gates = vector.delta_gates;
  table.gated_delta = vector.gated_delta;
  table.delta_replay = vector.delta_replay;
  table.block_maxima = vector.block_maxima;
  table.tokens_between = vector.tokens_between;
  table.token_weights = vector.token_weights;
  table.noise_bounds = vector.noise_bounds;
}

uint64_t AttentionScratchBytes(const AttentionShape& /*shape*/, int32_t head_dim) {
  return static_cast<uint64_t>(AttentionScratch::Floats(head_dim)) * sizeof(float);
}

}  // namespace mach::kernels
