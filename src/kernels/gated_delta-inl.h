// The parts of Gated DeltaNet, written once over F32x16 (see simd-inl.h) and compiled per
// instruction set. The definitions stand in kernels.h.
//
// The rule works on blocks of kDeltaVectors * 16 columns, over all tokens of a call, so that a
// block of the state stays in the nearest cache. Updating the state for one token and the first
// chain of the next share a pass over the block. How wide a block is differs between instruction
// sets; a column never notices.

namespace mach::kernels::MACH_SIMD {

inline constexpr float kL2NormEpsilon = 1e-6F;

inline void ConvSilu(const float* const* rows, const float* weight, int64_t weight_stride,
                     int64_t taps, int64_t channels, float* out) {
  for (int64_t i = 0; i < channels; i += 16) {
    const int64_t count = channels - i < 16 ? channels - i : 16;
    F32x16 acc = Zero();
    for (int64_t tap = 0; tap < taps; ++tap) {
      acc = Fma(LoadPartial(weight + tap * weight_stride + i, count),
                LoadPartial(rows[tap] + i, count), acc);
    }
    StorePartial(Silu(acc), out + i, count);
  }
}

inline void L2Norm(const float* x, float scale, int64_t n, float* out) {
  F32x16 sum = Zero();
  for (int64_t i = 0; i < n; i += 16) {
    const F32x16 a = LoadPartial(x + i, n - i < 16 ? n - i : 16);
    sum = Fma(a, a, sum);
  }
  const F32x16 inverse = Set1(1.0F / __builtin_sqrtf(Reduce16(sum) + kL2NormEpsilon));
  const F32x16 factor = Set1(scale);
  for (int64_t i = 0; i < n; i += 16) {
    const int64_t count = n - i < 16 ? n - i : 16;
    StorePartial(Mul(Mul(LoadPartial(x + i, count), inverse), factor), out + i, count);
  }
}

// log(1 + y) for y in [0, 1], within 3 ulp: 2 atanh(s) with s = y / (2 + y), by the series of atanh
// up to s^17. s is at most 1/3, which leaves a relative error of 2^-32.
MACH_INLINE F32x16 Log1p(F32x16 y) {
  const F32x16 s = Div(y, Add(Set1(2.0F), y));
  const F32x16 square = Mul(s, s);
  F32x16 p = Set1(1.0F / 17);
  p = Fma(p, square, Set1(1.0F / 15));
  p = Fma(p, square, Set1(1.0F / 13));
  p = Fma(p, square, Set1(1.0F / 11));
  p = Fma(p, square, Set1(1.0F / 9));
  p = Fma(p, square, Set1(1.0F / 7));
  p = Fma(p, square, Set1(1.0F / 5));
  p = Fma(p, square, Set1(1.0F / 3));
  const F32x16 twice = Add(s, s);
  return Fma(Mul(twice, square), p, twice);
}

// log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|)), which cannot overflow.
MACH_INLINE F32x16 Softplus(F32x16 x) {
  const F32x16 negated = Sub(Set1(-0.0F), x);
  const F32x16 below = SelectLess(x, negated, x, negated);  // -|x|
  return Add(Max(x, Zero()), Log1p(Exp(below)));
}

inline void SoftplusRow(const float* x, int64_t n, float* out) {
  for (int64_t i = 0; i < n; i += 16) {
    const int64_t count = n - i < 16 ? n - i : 16;
    StorePartial(Softplus(LoadPartial(x + i, count)), out + i, count);
  }
}

inline void DeltaGates(const float* a, const float* b, const float* a_log, const float* dt_bias,
                       int64_t n, float* decay, float* beta) {
  for (int64_t i = 0; i < n; i += 16) {
    const int64_t count = n - i < 16 ? n - i : 16;
    const F32x16 rate = Exp(LoadPartial(a_log + i, count));
    const F32x16 step = Softplus(Add(LoadPartial(a + i, count), LoadPartial(dt_bias + i, count)));
    const F32x16 exponent = Sub(Set1(-0.0F), Mul(rate, step));
    StorePartial(Exp(exponent), decay + i, count);
    StorePartial(Sigmoid(LoadPartial(b + i, count)), beta + i, count);
  }
}

// The m of one token: a chain down every column of a block.
template <int kVectors>
MACH_INLINE void FirstChain(const float* state, int64_t stride, const float* k, int64_t k_dim,
                            F32x16* m) {
#pragma GCC unroll 8
  for (int i = 0; i < kVectors; ++i) {
    m[i] = Zero();
  }
  for (int64_t row = 0; row < k_dim; ++row) {
    const F32x16 key = Set1(k[row]);
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) {
      m[i] = Fma(Load(state + row * stride + 16 * i), key, m[i]);
    }
  }
}

// Moves the state of a block over one token: from -> to. m goes in as this token's and, with kNext,
// comes out as that of the next one, whose key is next_k.
template <int kVectors, bool kNext, bool kStream>
MACH_INLINE void DeltaToken(const DeltaCall& call, int64_t token, int64_t column, const float* from,
                            float* to, F32x16* m) {
  const int64_t k_dim = call.k_dim;
  const int64_t stride = call.v_dim;
  const float* q = call.q + token * k_dim;
  const float* k = call.k + token * k_dim;
  const float* next_k = k + k_dim;
  const F32x16 decay = Set1(call.decay[token * call.gate_stride]);
  const F32x16 beta = Set1(call.beta[token * call.gate_stride]);
  F32x16 delta[kVectors];
  F32x16 out[kVectors];
#pragma GCC unroll 8
  for (int i = 0; i < kVectors; ++i) {
    const int64_t at = token * stride + column + 16 * i;
    delta[i] = Mul(beta, Sub(Load(call.v + at), Mul(decay, m[i])));
    if (call.delta != nullptr) {
      Store(delta[i], call.delta + at);
    }
    out[i] = Zero();
    m[i] = Zero();
  }
  for (int64_t row = 0; row < k_dim; ++row) {
    const F32x16 key = Set1(k[row]);
    const F32x16 query = Set1(q[row]);
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) {
      const F32x16 s = Fma(key, delta[i], Mul(decay, Load(from + row * stride + 16 * i)));
      if constexpr (kStream) {
        StoreStream(s, to + row * stride + 16 * i);
      } else {
        Store(s, to + row * stride + 16 * i);
      }
      out[i] = Fma(s, query, out[i]);
      if constexpr (kNext) {
        m[i] = Fma(s, Set1(next_k[row]), m[i]);
      }
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kVectors; ++i) {
    Store(out[i], call.out + token * stride + column + 16 * i);
  }
}

template <int kVectors>
inline void DeltaBlock(const DeltaCall& call, int64_t column) {
  const float* from = call.state + column;
  float* to = call.new_state + column;
  F32x16 m[kVectors];
  FirstChain<kVectors>(from, call.v_dim, call.k, call.k_dim, m);
  if (call.tokens == 1) {
    // The state is next read a whole step later: it need not pass through the caches.
    DeltaToken<kVectors, false, true>(call, 0, column, from, to, m);
    return;
  }
  for (int64_t token = 0; token + 1 < call.tokens; ++token) {
    DeltaToken<kVectors, true, false>(call, token, column, from, to, m);
    from = to;
  }
  DeltaToken<kVectors, false, false>(call, call.tokens - 1, column, from, to, m);
}

inline void GatedDelta(const DeltaCall& call) {
  int64_t column = 0;
  for (; column + 16 * kDeltaVectors <= call.v_dim; column += 16 * kDeltaVectors) {
    DeltaBlock<kDeltaVectors>(call, column);
  }
  for (; column < call.v_dim; column += 16) {
    DeltaBlock<1>(call, column);
  }
  StreamFence();
}

inline void ReplayDelta(const DeltaReplay& replay) {
  for (int64_t row = 0; row < replay.k_dim; ++row) {
    for (int64_t column = 0; column < replay.v_dim; column += 16) {
      const int64_t at = row * replay.v_dim + column;
      F32x16 s = Load(replay.state + at);
      for (int64_t token = 0; token < replay.tokens; ++token) {
        const F32x16 decay = Set1(replay.decay[token * replay.gate_stride]);
        const F32x16 key = Set1(replay.k[token * replay.k_dim + row]);
        s = Fma(key, Load(replay.delta + token * replay.v_dim + column), Mul(decay, s));
      }
      Store(s, replay.new_state + at);
    }
  }
}

}  // namespace mach::kernels::MACH_SIMD
