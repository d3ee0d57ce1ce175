// The CPU kernels: one table of functions per instruction set, all with the same results.
//
// One answer. Every function here has one definition of its result, written at its declaration in
// terms of IEEE fp32 operations in a stated order, and every table reproduces it bit for bit at
// every batch size. `fma` is the correctly rounded fused operation. A reduction over a row uses 16
// lanes, lane l taking elements l, l+16, l+32, ... in ascending order, and then adds the lanes in
// the order of Reduce16: pairs at distance 8, then 4, 2, 1. No function allocates or starts
// threads; the caller splits work between threads by outputs.
//
// Pointers are to dense row-major fp32 unless stated otherwise; strides are in elements.
#pragma once

#include <cstdint>

#include "platform/cpu.h"
#include "tensor/dtype.h"
#include "tensor/packed_linear.h"

namespace mach::kernels {

// Raised with every change of what a model computes from the same weights and tokens: a definition
// below, the portable functions (base/portable_math.h), how models use them. Logits, keys, values
// and recurrent states of one version have the same bits everywhere, and whatever is kept of them
// is valid for that version only. tests/golden/bits.txt records which checkpoints each changed.
inline constexpr int kArithmeticVersion = 1;

// Activations quantised for one group size. Memory belongs to the caller.
//   d = max|x| over the group;  scale = d * (1/127);  inverse = d == 0 ? 0 : 127 / d
//   code = round_to_nearest_even(x * inverse), |code| <= 127
//   scaled_sum = scale * float(sum of the group's codes)
// Where 127 / d could overflow (d < 2^-120) the group counts as zero. A NaN or an infinity in the
// group gives codes 0, scale and scaled_sum NaN: it reaches every output of its row as NaN.
struct QuantizedRows {
  int64_t rows = 0;
  int64_t cols = 0;              // a multiple of group_size
  int32_t group_size = 0;        // 32, 64 or 128
  int8_t* codes = nullptr;       // [rows, cols]
  float* scales = nullptr;       // [rows, cols / group_size]
  float* scaled_sums = nullptr;  // [rows, cols / group_size]
};

// Keys and values of one layer for one sequence, in blocks of kKvBlockTokens absolute positions.
// Position p lies in block p / kKvBlockTokens. Keys are stored with positions innermost, so that a
// score needs no horizontal sum.
//   key block   [kv_heads, head_dim, kKvBlockTokens]
//   value block [kv_heads, kKvBlockTokens, head_dim]
inline constexpr int64_t kKvBlockTokens = 32;

// Attention works on tiles of this many (query, head) rows that share a kv head.
inline constexpr int64_t kAttentionTileRows = 72;

struct KvLayerView {
  void* const* key_blocks = nullptr;  // one pointer for each block
  void* const* value_blocks = nullptr;
  DType dtype = DType::kBF16;  // F32, BF16 or F16
  int32_t kv_heads = 0;
  int32_t head_dim = 0;  // a multiple of 16
};

struct AttentionShape {
  int32_t q_heads = 0;  // a multiple of kv_heads; query head h reads kv head h / (q_heads/kv_heads)
  float scale = 0;      // of the scores
  int32_t window = 0;   // query i sees keys j with i - j < window; 0 = all
};

// Consecutive tokens of one head under the gated delta rule. The state S is [k_dim, v_dim]; columns
// never mix. For each token and each column, with e its decay and S[i], k[i], q[i] over i
// ascending:
//   m = 0;  m = fma(S[i], k[i], m)
//   delta = beta * (v - e * m)            (three roundings)
//   S[i] = fma(k[i], delta, e * S[i])
//   o = 0;  o = fma(S[i], q[i], o)
// Neither the cut into calls nor the width of what is in flight changes a bit.
struct DeltaCall {
  int64_t tokens = 0;  // at least 1
  int64_t k_dim = 0;
  int64_t v_dim = 0;             // a multiple of 16
  const float* q = nullptr;      // [tokens, k_dim]
  const float* k = nullptr;      // [tokens, k_dim]
  const float* v = nullptr;      // [tokens, v_dim]
  const float* decay = nullptr;  // one for each token, gate_stride apart
  const float* beta = nullptr;
  int64_t gate_stride = 0;
  const float* state = nullptr;
  float* new_state = nullptr;  // aligned to 64; may be `state`
  float* out = nullptr;        // [tokens, v_dim]
  float* delta = nullptr;      // [tokens, v_dim], or null if nobody wants it
};

// S[i] = fma(k[i], delta, e * S[i]) for each token: the states that DeltaCall went through.
struct DeltaReplay {
  int64_t tokens = 0;
  int64_t k_dim = 0;
  int64_t v_dim = 0;             // a multiple of 16
  const float* k = nullptr;      // [tokens, k_dim]
  const float* delta = nullptr;  // [tokens, v_dim]
  const float* decay = nullptr;  // one for each token, gate_stride apart
  int64_t gate_stride = 0;
  const float* state = nullptr;
  float* new_state = nullptr;  // may be `state`
};

// Choosing a token looks at a row of logits in blocks of this many tokens.
inline constexpr int64_t kTokenBlock = 64;

// The 32 random bits of a token: the finaliser of MurmurHash3 with two keys, modulo 2^32.
//   x = token ^ first;   x ^= x >> 16;  x *= 0x85ebca6b
//   x = x ^ second;      x ^= x >> 13;  x *= 0xc2b2ae35;  x ^= x >> 16
struct NoiseKey {
  uint32_t first = 0;
  uint32_t second = 0;
};

// How logits are looked at: relative to the best, times 1 / temperature.
struct TokenScale {
  float best = 0;   // finite
  float scale = 1;  // positive, finite
  float least = 0;  // logits below this are left out; may be -infinity
  float buckets_per_nat = 0;
  float last_bucket = 0;  // below 2^24
};

struct KernelTable {
  Isa isa = Isa::kScalar;

  // Quantises rows [row_begin, row_end) of x into `out`.
  void (*quantize_rows)(const float* x, int64_t x_stride, int64_t row_begin, int64_t row_end,
                        const QuantizedRows& out);

  // y[r][o] for all rows of x and the outputs of strips [strip_begin, strip_end). Affine weights.
  //   acc = 0; for each group g ascending:
  //     dot = sum over the group of code_w * code_x           (integer, exact)
  //     acc = fma(float(dot), scale_w * scale_x, acc)
  //     acc = fma(bias_w, scaled_sum_x, acc)
  //   y = acc + layer bias (if there is one)
  // `scratch` holds LinearScratchBytes() bytes, aligned to 64, one for each thread.
  void (*linear_affine)(const PackedView& weight, const QuantizedRows& x, int64_t strip_begin,
                        int64_t strip_end, float* y, int64_t y_stride, void* scratch);

  // The same for float weights: acc = fma(w[k], x[k], acc) for k ascending; y = acc + layer bias.
  void (*linear_float)(const PackedView& weight, const float* x, int64_t x_stride, int64_t rows,
                       int64_t strip_begin, int64_t strip_end, float* y, int64_t y_stride);

  // out = (x * inverse_rms) * weight, inverse_rms = 1 / sqrt(sum(x*x) / n + eps); the sum in 16
  // lanes by fma. n need not be a multiple of 16: the tail lanes are zero. In place is allowed.
  void (*rms_norm)(const float* x, const float* weight, float eps, int64_t n, float* out);

  // x += y
  void (*add)(float* x, const float* y, int64_t n);

  // out = (gate / (1 + exp(-gate))) * up, with Exp of simd-inl.h.
  void (*swiglu)(const float* gate, const float* up, int64_t n, float* out);

  // out = 1 / (1 + Exp(-x)). In place is allowed.
  void (*sigmoid)(const float* x, int64_t n, float* out);

  // x = x * (1 / (1 + Exp(-gate)))
  void (*sigmoid_gate)(float* x, const float* gate, int64_t n);

  // out = fma(weight, y, out)
  void (*add_scaled)(float* out, const float* y, float weight, int64_t n);

  // out = e / Reduce16(sum of e), e = Exp(x - max of x); maximum and sum in 16 lanes. A NaN in x
  // makes the whole row NaN. In place is allowed.
  void (*softmax)(const float* x, int64_t n, float* out);

  // Rotates one head in place, half-split pairs (i, i + pairs):
  //   a' = a*cos - b*sin as fma(a, cos, -(b*sin));  b' = fma(b, cos, a*sin)
  void (*rope_half)(float* x, const float* cos, const float* sin, int64_t pairs);

  // Stores the keys and values of `tokens` consecutive positions from `first_position` on.
  // k and v are [tokens, kv_heads, head_dim] with the given row strides; rounding to nearest even.
  void (*store_kv)(const KvLayerView& kv, int64_t first_position, int64_t tokens, const float* k,
                   int64_t k_stride, const float* v, int64_t v_stride);

  // Causal attention of `tokens` queries at positions first_position.. over keys 0..position, for
  // query heads [head_begin, head_end). q and out are [tokens, q_heads, head_dim] with row strides.
  // For each query and head, with m = -inf, L = o = 0, over the blocks that hold a visible key,
  // ascending:
  //   s[p] = (chain over d ascending of fma(q[d], k[d][p])) * scale;  -inf where p is not visible
  //   m' = max(m, max of s);  e[p] = Exp(s[p] - m')
  //   if m' != m:  c = Exp(m - m');  L = L * c in each lane;  o = o * c   (else c would be 1)
  //   L[i] = L[i] + (e[i] + e[i + 16])  for the 16 lanes i;  the 32 positions are those of the
  //   block o = fma(e[p], v[p], o) for the visible p ascending
  // and at the end out = o / Reduce16(L). Positions that are not visible may hold anything, NaN
  // too. A NaN in a visible key or value shows in the result.
  // `scratch` holds AttentionScratchBytes(...) bytes, one for each thread.
  void (*attention)(const KvLayerView& kv, const AttentionShape& shape, int64_t first_position,
                    int64_t tokens, const float* q, int64_t q_stride, int32_t head_begin,
                    int32_t head_end, float* out, int64_t out_stride, void* scratch);

  // One row of a causal depthwise convolution and its SiLU. rows[j] is the input row under tap j,
  // the last being the row itself; weight is [taps, channels] with the given stride between taps.
  //   acc = 0; acc = fma(weight[j], rows[j], acc) for j ascending;  out = acc / (1 + Exp(-acc))
  void (*conv_silu)(const float* const* rows, const float* weight, int64_t weight_stride,
                    int64_t taps, int64_t channels, float* out);

  // out = (x * inverse) * scale, inverse = 1 / sqrt(sum(x*x) + 1e-6); the sum in 16 lanes by fma.
  void (*l2_norm)(const float* x, float scale, int64_t n, float* out);

  // The two gates of the delta rule, for n heads:
  //   decay = Exp(-(Exp(a_log) * Softplus(a + dt_bias)));  beta = 1 / (1 + Exp(-b))
  // with Softplus of gated_delta-inl.h.
  void (*delta_gates)(const float* a, const float* b, const float* a_log, const float* dt_bias,
                      int64_t n, float* decay, float* beta);

  // The gated delta rule, token by token, for one head. See DeltaCall.
  void (*gated_delta)(const DeltaCall& call);
  // What the rule did to the state, done again from recorded deltas. See DeltaReplay.
  void (*delta_replay)(const DeltaReplay& replay);

  // maxima[b] = the largest of block b of x; NaN counts as -infinity. In 16 lanes; the sign of a
  // zero is that of whichever came first.
  void (*block_maxima)(const float* x, int64_t n, float* maxima);

  // Writes the indices i with low <= x[i] <= high, ascending, and returns how many there are.
  int64_t (*tokens_between)(const float* x, int64_t n, float low, float high, uint32_t* tokens);

  // With t = (x - best) * scale:
  //   weights = Exp(t) * 2^40;  0 where x is NaN or below `least`
  //   buckets = trunc(min(t * -buckets_per_nat, last_bucket));  last_bucket for a NaN
  // `best` is no less than any x. Buckets never decrease as x falls.
  void (*token_weights)(const float* x, int64_t n, const TokenScale& by, float* weights,
                        uint32_t* buckets);

  // bounds[b] = for block b of the tokens, the largest of
  //   (x - best) * scale + 109.519 - float(bits of float(~noise >> 1)) * (2^-23 ln 2)
  // over those with x at least `least`; -infinity if maxima[b] is below that. noise is the token's
  // under `key`. This is no less than the x' - log(-log u) of any token there, where x' is exact
  // and u = (noise + f) / 2^32 for any 0 < f < 1: -log u > 1 - u >= ~noise / 2^32, the bits of a
  // float v are at most 2^23 (127 + log2 v), and 0.001 is room for all rounding, of x - best down
  // to -1,000.
  void (*noise_bounds)(const float* x, int64_t n, const TokenScale& by, const NoiseKey& key,
                       const float* maxima, float* bounds);
};

// Scratch that one call on one thread needs; 0 where null is enough. A larger one does no harm.
uint64_t LinearScratchBytes(Isa isa, int64_t rows, int64_t cols);
uint64_t AttentionScratchBytes(const AttentionShape& shape, int32_t head_dim);

// The table of an instruction set. Calling functions of one that SupportedIsas() does not list is
// an illegal instruction.
const KernelTable& Kernels(Isa isa);

}  // namespace mach::kernels
