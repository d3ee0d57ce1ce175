// The inner loops of attention, written once over F32x16 (see simd-inl.h) and compiled per
// instruction set: scores, softmax step and weighted values of a few rows over one KV block. A row
// is one query of one head. How many rows and vectors are in flight differs between instruction
// sets (kScoreRows and its kind, chosen by the number of registers), the chain of one row never.

namespace mach::kernels::MACH_SIMD {

// The visible keys of one row inside one block: positions [begin, end) relative to the block.
struct VisibleRange {
  int64_t begin;
  int64_t end;
};

// scores[r][p] = (chain over d of fma(q[d][r], k[d][p])) * scale, for kRows rows and kVectors * 16
// positions.
template <int kRows, int kVectors, class T>
void ScoreTile(const float* q, const T* keys, const T* next_keys, int64_t head_dim, float scale,
               float* scores) {
  F32x16 acc[kRows][kVectors];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) {
      acc[r][i] = Zero();
    }
  }
  for (int64_t d = 0; d < head_dim; ++d) {
    F32x16 k[kVectors];
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) {
      k[i] = Load(keys + i * 16);
    }
    // The same row of the next block: blocks lie apart, so the hardware does not see the stream.
    // fp32 is the converted copy, near already.
    if constexpr (sizeof(T) == 2) {
      __builtin_prefetch(next_keys);
    }
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const F32x16 query = Set1(q[r]);
#pragma GCC unroll 4
      for (int i = 0; i < kVectors; ++i) {
        acc[r][i] = Fma(query, k[i], acc[r][i]);
      }
    }
    q += kRows;
    keys += kKvBlockTokens;
    next_keys += kKvBlockTokens;
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) {
      Store(Mul(acc[r][i], Set1(scale)), scores + r * kKvBlockTokens + i * 16);
    }
  }
}

// out[r] = fma(weights[r][p], values[p], out[r]) for p in [begin, end) ascending, for kRows rows
// and kVectors * 16 dimensions.
template <int kRows, int kVectors, class T>
void ValueTile(const float* weights, const T* values, const T* next_values, int64_t head_dim,
               int64_t begin, int64_t end, float* out) {
  F32x16 acc[kRows][kVectors];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) {
      acc[r][i] = Load(out + r * head_dim + i * 16);
    }
  }
  const T* row = values + begin * head_dim;
  const T* next_row = next_values + begin * head_dim;
  for (int64_t p = begin; p < end; ++p) {
    F32x16 v[kVectors];
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) {
      v[i] = Load(row + i * 16);
      if (sizeof(T) == 2 && i % 2 == 0) {
        __builtin_prefetch(next_row + i * 16);
      }
    }
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const F32x16 weight = Set1(weights[r * kKvBlockTokens + p]);
#pragma GCC unroll 4
      for (int i = 0; i < kVectors; ++i) {
        acc[r][i] = Fma(weight, v[i], acc[r][i]);
      }
    }
    row += head_dim;
    next_row += head_dim;
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) {
      Store(acc[r][i], out + r * head_dim + i * 16);
    }
  }
}

template <int kRows, class T>
inline void Scores(int64_t rows, const float* q, const T* keys, const T* next_keys,
                   int64_t head_dim, float scale, float* scores) {
  if constexpr (kRows > 1) {
    if (rows < kRows) {
      return Scores<kRows - 1>(rows, q, keys, next_keys, head_dim, scale, scores);
    }
  }
  for (int64_t p = 0; p < kKvBlockTokens; p += 16 * kScoreVectors) {
    ScoreTile<kRows, kScoreVectors>(q, keys + p, next_keys + p, head_dim, scale, scores + p);
  }
}

template <int kRows, class T>
inline void Values(int64_t rows, const float* weights, const T* values, const T* next_values,
                   int64_t head_dim, int64_t begin, int64_t end, float* out) {
  if constexpr (kRows > 1) {
    if (rows < kRows) {
      return Values<kRows - 1>(rows, weights, values, next_values, head_dim, begin, end, out);
    }
  }
  int64_t d = 0;
  for (; d + 16 * kValueVectors <= head_dim; d += 16 * kValueVectors) {
    ValueTile<kRows, kValueVectors>(weights, values + d, next_values + d, head_dim, begin, end,
                                    out + d);
  }
  for (; d < head_dim; d += 16) {
    ValueTile<kRows, 1>(weights, values + d, next_values + d, head_dim, begin, end, out + d);
  }
}

// One softmax step of one row over one block: scores become weights, the row's maximum and
// denominator move on, its output is rescaled if the maximum grew.
MACH_INLINE void SoftmaxStep(VisibleRange visible, int64_t head_dim, float* scores, float* maximum,
                             float* lanes, float* out) {
  F32x16 low = Load(scores);
  F32x16 high = Load(scores + 16);
  if (visible.begin > 0 || visible.end < kKvBlockTokens) {
    const F32x16 hidden = Set1(-__builtin_inff());
    const int64_t low_begin = visible.begin < 16 ? visible.begin : 16;
    const int64_t low_end = visible.end < 16 ? visible.end : 16;
    const int64_t high_begin = visible.begin < 16 ? 0 : visible.begin - 16;
    const int64_t high_end = visible.end < 16 ? 0 : visible.end - 16;
    low = SelectRange(low_begin, low_end, low, hidden);
    high = SelectRange(high_begin, high_end, high, hidden);
  }
  const float block_maximum = Max16(Max(low, high));
  const float old_maximum = *maximum;
  const float new_maximum = old_maximum > block_maximum ? old_maximum : block_maximum;
  const F32x16 shift = Set1(new_maximum);
  low = Exp(Sub(low, shift));
  high = Exp(Sub(high, shift));
  Store(low, scores);
  Store(high, scores + 16);
  F32x16 sum = Load(lanes);
  if (new_maximum != old_maximum) {
    const F32x16 factor = Exp(Sub(Set1(old_maximum), shift));
    sum = Mul(sum, factor);
    for (int64_t d = 0; d < head_dim; d += 16) {
      Store(Mul(Load(out + d), factor), out + d);
    }
    *maximum = new_maximum;
  }
  Store(Add(sum, Add(low, high)), lanes);
}

}  // namespace mach::kernels::MACH_SIMD
