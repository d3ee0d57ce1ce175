// The table of one instruction set (VectorTable), filled with the functions of the -inl.h files
// that its source file includes before this one.

namespace mach::kernels::MACH_SIMD {

inline constexpr VectorTable kTable = {
    .rms_norm = RmsNorm,
    .add = AddRows,
    .swiglu = SwiGlu,
    .rope_half = RopeHalf,
    .store_kv = StoreKv,
    .attention = Attention,
    .sigmoid = SigmoidRow,
    .sigmoid_gate = SigmoidGate,
    .add_scaled = AddScaled,
    .softmax = Softmax,
    .conv_silu = ConvSilu,
    .l2_norm = L2Norm,
    .delta_gates = DeltaGates,
    .gated_delta = GatedDelta,
    .delta_replay = ReplayDelta,
    .block_maxima = BlockMaxima,
    .tokens_between = TokensBetween,
    .token_weights = TokenWeights,
    .noise_bounds = NoiseBounds,
    .exp = ExpRow,
    .softplus = SoftplusRow,
};

}  // namespace mach::kernels::MACH_SIMD
