// The kernels over rows, written once over F32x16 (see simd-inl.h) and compiled per instruction
// set. Their definitions stand in kernels.h.

namespace mach::kernels::MACH_SIMD {

inline void RmsNorm(const float* x, const float* weight, float eps, int64_t n, float* out) {
  const int64_t whole = n & ~int64_t{15};
  F32x16 sum = Zero();
  for (int64_t i = 0; i < whole; i += 16) {
    const F32x16 a = Load(x + i);
    sum = Fma(a, a, sum);
  }
  if (whole < n) {
    const F32x16 a = LoadPartial(x + whole, n - whole);
    sum = Fma(a, a, sum);
  }
  const float mean = Reduce16(sum) / static_cast<float>(n);
  const F32x16 inverse = Set1(1.0F / __builtin_sqrtf(mean + eps));
  for (int64_t i = 0; i < whole; i += 16) {
    Store(Mul(Mul(Load(x + i), inverse), Load(weight + i)), out + i);
  }
  if (whole < n) {
    const int64_t tail = n - whole;
    const F32x16 scaled = Mul(LoadPartial(x + whole, tail), inverse);
    StorePartial(Mul(scaled, LoadPartial(weight + whole, tail)), out + whole, tail);
  }
}

inline void AddRows(float* x, const float* y, int64_t n) {
  const int64_t whole = n & ~int64_t{15};
  for (int64_t i = 0; i < whole; i += 16) {
    Store(Add(Load(x + i), Load(y + i)), x + i);
  }
  if (whole < n) {
    const int64_t tail = n - whole;
    StorePartial(Add(LoadPartial(x + whole, tail), LoadPartial(y + whole, tail)), x + whole, tail);
  }
}

MACH_INLINE F32x16 OnePlusExpMinus(F32x16 x) {
  return Add(Set1(1.0F), Exp(Sub(Set1(-0.0F), x)));
}

MACH_INLINE F32x16 Silu(F32x16 x) {
  return Div(x, OnePlusExpMinus(x));
}

MACH_INLINE F32x16 Sigmoid(F32x16 x) {
  return Div(Set1(1.0F), OnePlusExpMinus(x));
}

MACH_INLINE F32x16 SwiGluLanes(F32x16 gate, F32x16 up) {
  return Mul(Silu(gate), up);
}

inline void SwiGlu(const float* gate, const float* up, int64_t n, float* out) {
  const int64_t whole = n & ~int64_t{15};
  for (int64_t i = 0; i < whole; i += 16) {
    Store(SwiGluLanes(Load(gate + i), Load(up + i)), out + i);
  }
  if (whole < n) {
    const int64_t tail = n - whole;
    StorePartial(SwiGluLanes(LoadPartial(gate + whole, tail), LoadPartial(up + whole, tail)),
                 out + whole, tail);
  }
}

inline void SigmoidRow(const float* x, int64_t n, float* out) {
  for (int64_t i = 0; i < n; i += 16) {
    const int64_t count = n - i < 16 ? n - i : 16;
    StorePartial(Sigmoid(LoadPartial(x + i, count)), out + i, count);
  }
}

inline void SigmoidGate(float* x, const float* gate, int64_t n) {
  const int64_t whole = n & ~int64_t{15};
  for (int64_t i = 0; i < whole; i += 16) {
    Store(Mul(Load(x + i), Sigmoid(Load(gate + i))), x + i);
  }
  if (whole < n) {
    const int64_t tail = n - whole;
    const F32x16 factor = Sigmoid(LoadPartial(gate + whole, tail));
    StorePartial(Mul(LoadPartial(x + whole, tail), factor), x + whole, tail);
  }
}

inline void AddScaled(float* out, const float* y, float weight, int64_t n) {
  const F32x16 w = Set1(weight);
  const int64_t whole = n & ~int64_t{15};
  for (int64_t i = 0; i < whole; i += 16) {
    Store(Fma(w, Load(y + i), Load(out + i)), out + i);
  }
  if (whole < n) {
    const int64_t tail = n - whole;
    StorePartial(Fma(w, LoadPartial(y + whole, tail), LoadPartial(out + whole, tail)), out + whole,
                 tail);
  }
}

inline void Softmax(const float* x, int64_t n, float* out) {
  const F32x16 lowest = Set1(-__builtin_inff());
  F32x16 maxima = lowest;
  for (int64_t i = 0; i < n; i += 16) {
    const int64_t count = n - i < 16 ? n - i : 16;
    // A NaN never becomes the maximum: it shows in the sum.
    maxima = Max(SelectRange(0, count, LoadPartial(x + i, count), lowest), maxima);
  }
  const F32x16 maximum = Set1(Max16(maxima));
  F32x16 sum = Zero();
  for (int64_t i = 0; i < n; i += 16) {
    const int64_t count = n - i < 16 ? n - i : 16;
    const F32x16 e = Exp(Sub(LoadPartial(x + i, count), maximum));
    sum = Add(sum, SelectRange(0, count, e, Zero()));
    StorePartial(e, out + i, count);
  }
  const F32x16 total = Set1(Reduce16(sum));
  for (int64_t i = 0; i < n; i += 16) {
    const int64_t count = n - i < 16 ? n - i : 16;
    StorePartial(Div(LoadPartial(out + i, count), total), out + i, count);
  }
}

inline void ExpRow(const float* x, int64_t n, float* out) {
  for (int64_t i = 0; i < n; i += 16) {
    const int64_t count = n - i < 16 ? n - i : 16;
    StorePartial(Exp(LoadPartial(x + i, count)), out + i, count);
  }
}

inline void RopeHalf(float* x, const float* cos, const float* sin, int64_t pairs) {
  for (int64_t i = 0; i < pairs; i += 16) {
    const int64_t count = pairs - i < 16 ? pairs - i : 16;
    const F32x16 c = LoadPartial(cos + i, count);
    const F32x16 s = LoadPartial(sin + i, count);
    const F32x16 a = LoadPartial(x + i, count);
    const F32x16 b = LoadPartial(x + pairs + i, count);
    StorePartial(Fma(a, c, Sub(Set1(-0.0F), Mul(b, s))), x + i, count);
    StorePartial(Fma(b, c, Mul(a, s)), x + pairs + i, count);
  }
}

template <class T>
inline void StoreKvAs(const KvLayerView& kv, int64_t first_position, int64_t tokens, const float* k,
                      int64_t k_stride, const float* v, int64_t v_stride) {
  const int64_t head_dim = kv.head_dim;
  for (int64_t t = 0; t < tokens; ++t) {
    const int64_t position = first_position + t;
    const int64_t slot = position % kKvBlockTokens;
    T* keys = static_cast<T*>(kv.key_blocks[position / kKvBlockTokens]) + slot;
    T* values = static_cast<T*>(kv.value_blocks[position / kKvBlockTokens]) + slot * head_dim;
    for (int64_t h = 0; h < kv.kv_heads; ++h) {
      const int64_t head = h * head_dim * kKvBlockTokens;
      for (int64_t d = 0; d < head_dim; d += 16) {
        T rounded[16];
        Store(Load(k + t * k_stride + h * head_dim + d), rounded);
        T* column = keys + head + d * kKvBlockTokens;
        for (int64_t i = 0; i < 16; ++i) {
          column[i * kKvBlockTokens] = rounded[i];
        }
        Store(Load(v + t * v_stride + h * head_dim + d), values + head + d);
      }
    }
  }
}

inline void StoreKv(const KvLayerView& kv, int64_t first_position, int64_t tokens, const float* k,
                    int64_t k_stride, const float* v, int64_t v_stride) {
  if (kv.dtype == DType::kF32) {
    StoreKvAs<float>(kv, first_position, tokens, k, k_stride, v, v_stride);
  } else if (kv.dtype == DType::kBF16) {
    StoreKvAs<Bf16>(kv, first_position, tokens, k, k_stride, v, v_stride);
  } else {
    MACH_CHECK(kv.dtype == DType::kF16);
    StoreKvAs<F16>(kv, first_position, tokens, k, k_stride, v, v_stride);
  }
}

}  // namespace mach::kernels::MACH_SIMD
