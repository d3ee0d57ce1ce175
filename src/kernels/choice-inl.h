// The kernels for choosing a token, written once over F32x16 and U32x16 (see simd-inl.h) and
// compiled per instruction set. Their definitions stand in kernels.h.

namespace mach::kernels::MACH_SIMD {

// Lanes beyond `count` are -infinity.
MACH_INLINE F32x16 LoadLogits(const float* x, int64_t count) {
  return count >= 16 ? Load(x)
                     : SelectRange(0, count, LoadPartial(x, count), Set1(-__builtin_inff()));
}

inline void BlockMaxima(const float* x, int64_t n, float* maxima) {
  for (int64_t begin = 0; begin < n; begin += kTokenBlock) {
    const int64_t end = n - begin < kTokenBlock ? n : begin + kTokenBlock;
    F32x16 most = Set1(-__builtin_inff());
    for (int64_t i = begin; i < end; i += 16) {
      most = Max(LoadLogits(x + i, end - i), most);  // takes `most` where the logit is NaN
    }
    maxima[begin / kTokenBlock] = Max16(most);
  }
}

inline int64_t TokensBetween(const float* x, int64_t n, float low, float high, uint32_t* tokens) {
  const F32x16 from = Set1(low);
  const F32x16 to = Set1(high);
  int64_t found = 0;
  for (int64_t i = 0; i < n; i += 16) {
    const int64_t count = n - i;
    const F32x16 logit = count >= 16 ? Load(x + i) : LoadPartial(x + i, count);
    uint32_t mask = MaskBetween(logit, from, to);
    if (count < 16) {
      mask &= (1U << static_cast<uint32_t>(count)) - 1U;
    }
    for (; mask != 0; mask &= mask - 1) {
      tokens[found++] = static_cast<uint32_t>(i) + static_cast<uint32_t>(__builtin_ctz(mask));
    }
  }
  return found;
}

inline void TokenWeights(const float* x, int64_t n, const TokenScale& by, float* weights,
                         uint32_t* buckets) {
  const F32x16 best = Set1(by.best);
  const F32x16 scale = Set1(by.scale);
  const F32x16 least = Set1(by.least);
  const F32x16 per_nat = Set1(-by.buckets_per_nat);
  const F32x16 last = Set1(by.last_bucket);
  for (int64_t i = 0; i < n; i += 16) {
    const int64_t count = n - i;
    const F32x16 logit = LoadLogits(x + i, count);
    const F32x16 t = Mul(Sub(logit, best), scale);
    const F32x16 all = SelectNan(t, Zero(), Mul(Exp(t), Set1(0x1p40F)));
    const F32x16 weight = SelectLess(logit, least, Zero(), all);
    const F32x16 at = Mul(t, per_nat);
    const U32x16 bucket = Truncate(SelectLess(at, last, at, last));
    if (count >= 16) {  // a partial store may be slow
      Store(weight, weights + i);
      Store(bucket, buckets + i);
    } else {
      StorePartial(weight, weights + i, count);
      StorePartial(bucket, buckets + i, count);
    }
  }
}

MACH_INLINE U32x16 Noise(U32x16 token, U32x16 first, U32x16 second) {
  U32x16 x = Xor(token, first);
  x = Mul(Xor(x, ShiftRight<16>(x)), SetInteger(0x85ebca6bU));
  x = Xor(x, second);
  x = Mul(Xor(x, ShiftRight<13>(x)), SetInteger(0xc2b2ae35U));
  return Xor(x, ShiftRight<16>(x));
}

inline void NoiseBounds(const float* x, int64_t n, const TokenScale& by, const NoiseKey& key,
                        const float* maxima, float* bounds) {
  const F32x16 nothing = Set1(-__builtin_inff());
  const F32x16 best = Set1(by.best);
  const F32x16 scale = Set1(by.scale);
  const F32x16 least = Set1(by.least);
  const U32x16 first = SetInteger(key.first);
  const U32x16 second = SetInteger(key.second);
  for (int64_t begin = 0; begin < n; begin += kTokenBlock) {
    F32x16 most = nothing;
    if (maxima[begin / kTokenBlock] >= by.least) {
      const int64_t end = n - begin < kTokenBlock ? n : begin + kTokenBlock;
      for (int64_t i = begin; i < end; i += 16) {
        const F32x16 logit = LoadLogits(x + i, end - i);
        const U32x16 token = Add(LaneNumbers(), SetInteger(static_cast<uint32_t>(i)));
        const U32x16 noise = Noise(token, first, second);
        const U32x16 rest = ShiftRight<1>(Xor(noise, SetInteger(0xffffffffU)));
        const F32x16 log2 = ToFloat(Bits(ToFloat(rest)));
        const F32x16 t = Mul(Sub(logit, best), scale);
        const F32x16 bound = Sub(Add(t, Set1(109.519F)), Mul(log2, Set1(0x1.62e43p-24F)));
        most = Max(SelectLess(logit, least, nothing, bound), most);
      }
    }
    bounds[begin / kTokenBlock] = Max16(most);
  }
}

}  // namespace mach::kernels::MACH_SIMD
