// Attention, written once over F32x16 (see simd-inl.h) and compiled per instruction set. The
// definition stands in kernels.h.
//
// A tile is up to kAttentionTileRows rows, a row being one query of one head; all rows of a tile
// share a kv head. The tile walks the KV blocks once. A block is converted to fp32 once for a tile
// (decode, with few rows, converts in registers instead), then row groups of kScoreRows run over
// it: scores, softmax step, weighted values. What differs between instruction sets is how many rows
// and vectors are in flight, never the chain of one row.

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
    __builtin_prefetch(next_keys);
    if constexpr (sizeof(T) == 4 && kVectors == 2) {
      __builtin_prefetch(next_keys + 16);
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
      if ((i * 16 * sizeof(T)) % 64 == 0) {
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

struct AttentionTile {
  const KvLayerView* kv;
  int32_t kv_head;
  int64_t rows;            // queries * heads
  int64_t heads;           // row r is query r / heads, head r % heads of this tile
  int64_t first_position;  // of the first query
  int64_t window;          // 0 = all
  float scale;
};

inline VisibleRange RowRange(const AttentionTile& tile, int64_t row, int64_t block) {
  const int64_t position = tile.first_position + row / tile.heads;
  const int64_t end = position + 1 - block * kKvBlockTokens;
  const int64_t begin = tile.window > 0 ? end - tile.window : 0;
  return {begin > 0 ? begin : 0, end < kKvBlockTokens ? end : kKvBlockTokens};
}

// One row group over one block. K and V are those of the tile's kv head.
template <class T>
inline void GroupStep(const AttentionTile& tile, const AttentionScratch& scratch, int64_t first_row,
                      int64_t rows, int64_t block, const T* keys, const T* next_keys,
                      const T* values, const T* next_values) {
  const int64_t head_dim = tile.kv->head_dim;
  VisibleRange ranges[AttentionScratch::kMaxGroupRows];
  bool any = false;
  for (int64_t r = 0; r < rows; ++r) {
    ranges[r] = RowRange(tile, first_row + r, block);
    any = any || ranges[r].begin < ranges[r].end;
  }
  if (!any) {
    return;
  }
  Scores<kScoreRows>(rows, scratch.q + first_row * head_dim, keys, next_keys, head_dim, tile.scale,
                     scratch.weights);
  for (int64_t r = 0; r < rows; ++r) {
    if (ranges[r].begin < ranges[r].end) {
      const int64_t row = first_row + r;
      SoftmaxStep(ranges[r], head_dim, scratch.weights + r * kKvBlockTokens, scratch.maxima + row,
                  scratch.lanes + row * 16, scratch.out + row * head_dim);
    }
  }
  for (int64_t r = 0; r < rows; r += kValueRows) {
    const int64_t count = rows - r < kValueRows ? rows - r : kValueRows;
    int64_t begin = 0;
    int64_t end = kKvBlockTokens;
    for (int64_t i = r; i < r + count; ++i) {
      begin = ranges[i].begin > begin ? ranges[i].begin : begin;
      end = ranges[i].end < end ? ranges[i].end : end;
    }
    // Positions that only some rows see go row by row, before and after those that all see.
    begin = begin < end ? begin : end;
    const float* weights = scratch.weights + r * kKvBlockTokens;
    float* out = scratch.out + (first_row + r) * head_dim;
    for (int64_t i = 0; i < count; ++i) {
      const VisibleRange own = ranges[r + i];
      if (own.begin < begin) {
        Values<1>(1, weights + i * kKvBlockTokens, values, next_values, head_dim, own.begin, begin,
                  out + i * head_dim);
      }
    }
    if (begin < end) {
      Values<kValueRows>(count, weights, values, next_values, head_dim, begin, end, out);
    }
    for (int64_t i = 0; i < count; ++i) {
      const VisibleRange own = ranges[r + i];
      const int64_t rest = own.begin > end ? own.begin : end;
      if (rest < own.end) {
        Values<1>(1, weights + i * kKvBlockTokens, values, next_values, head_dim, rest, own.end,
                  out + i * head_dim);
      }
    }
  }
}

template <class T>
inline void RunTile(const AttentionTile& tile, const AttentionScratch& scratch) {
  const int64_t head_dim = tile.kv->head_dim;
  const int64_t head_elements = head_dim * kKvBlockTokens;
  const int64_t last_position = tile.first_position + tile.rows / tile.heads - 1;
  const int64_t last_block = last_position / kKvBlockTokens;
  int64_t first_key = tile.window > 0 ? tile.first_position - tile.window + 1 : 0;
  first_key = first_key > 0 ? first_key : 0;
  // Worth it from the second row group on; fp32 needs no conversion.
  const bool convert = sizeof(T) != sizeof(float) && tile.rows > kScoreRows;

  for (int64_t block = first_key / kKvBlockTokens; block <= last_block; ++block) {
    const int64_t next = block < last_block ? block + 1 : block;
    const int64_t offset = tile.kv_head * head_elements;
    const T* keys = static_cast<const T*>(tile.kv->key_blocks[block]) + offset;
    const T* values = static_cast<const T*>(tile.kv->value_blocks[block]) + offset;
    const T* next_keys = static_cast<const T*>(tile.kv->key_blocks[next]) + offset;
    const T* next_values = static_cast<const T*>(tile.kv->value_blocks[next]) + offset;
    if (convert) {
      for (int64_t i = 0; i < head_elements; i += 16) {
        __builtin_prefetch(next_keys + i);
        Store(Load(keys + i), scratch.keys + i);
        __builtin_prefetch(next_values + i);
        Store(Load(values + i), scratch.values + i);
      }
    }
    for (int64_t row = 0; row < tile.rows; row += kScoreRows) {
      const int64_t rows = tile.rows - row < kScoreRows ? tile.rows - row : kScoreRows;
      if (convert) {
        GroupStep<float>(tile, scratch, row, rows, block, scratch.keys, scratch.keys,
                         scratch.values, scratch.values);
      } else {
        GroupStep<T>(tile, scratch, row, rows, block, keys, next_keys, values, next_values);
      }
    }
  }
}

inline AttentionScratch LayOutScratch(void* memory, int64_t head_dim) {
  AttentionScratch scratch;
  float* next = static_cast<float*>(memory);
  const auto take = [&next](int64_t floats) __attribute__((always_inline)) {
    float* part = next;
    next += floats;
    return part;
  };
  scratch.weights = take(AttentionScratch::kMaxGroupRows * kKvBlockTokens);
  scratch.lanes = take(kAttentionTileRows * 16);
  scratch.keys = take(head_dim * kKvBlockTokens);
  scratch.values = take(head_dim * kKvBlockTokens);
  scratch.out = take(kAttentionTileRows * head_dim);
  scratch.q = take(kAttentionTileRows * head_dim);
  scratch.maxima = take(kAttentionTileRows);
  return scratch;
}

inline void Attention(const KvLayerView& kv, const AttentionShape& shape, int64_t first_position,
                      int64_t tokens, const float* q, int64_t q_stride, int32_t head_begin,
                      int32_t head_end, float* out, int64_t out_stride, void* memory) {
  const int64_t head_dim = kv.head_dim;
  const AttentionScratch scratch = LayOutScratch(memory, head_dim);
  const int32_t group = shape.q_heads / kv.kv_heads;
  int32_t head = head_begin;
  while (head < head_end) {
    const int32_t kv_head = head / group;
    const int32_t group_end = (kv_head + 1) * group < head_end ? (kv_head + 1) * group : head_end;
    const int64_t heads =
        group_end - head < kAttentionTileRows ? group_end - head : kAttentionTileRows;
    const int64_t tile_tokens = kAttentionTileRows / heads;
    for (int64_t first = 0; first < tokens; first += tile_tokens) {
      const int64_t count = tokens - first < tile_tokens ? tokens - first : tile_tokens;
      const int64_t rows = count * heads;
      for (int64_t row = 0; row < rows; ++row) {
        const int64_t group_row = row - row % kScoreRows;
        const int64_t width = rows - group_row < kScoreRows ? rows - group_row : kScoreRows;
        const float* from = q + (first + row / heads) * q_stride + (head + row % heads) * head_dim;
        float* to = scratch.q + group_row * head_dim + (row - group_row);
        for (int64_t d = 0; d < head_dim; ++d) {
          to[d * width] = from[d];
        }
        for (int64_t d = 0; d < head_dim; d += 16) {
          Store(Zero(), scratch.out + row * head_dim + d);
        }
        Store(Zero(), scratch.lanes + row * 16);
        scratch.maxima[row] = -__builtin_inff();
      }
      const AttentionTile tile = {&kv,          kv_head,    rows, heads, first_position + first,
                                  shape.window, shape.scale};
      if (kv.dtype == DType::kF32) {
        RunTile<float>(tile, scratch);
      } else if (kv.dtype == DType::kBF16) {
        RunTile<Bf16>(tile, scratch);
      } else {
        MACH_CHECK(kv.dtype == DType::kF16);
        RunTile<F16>(tile, scratch);
      }
      for (int64_t row = 0; row < rows; ++row) {
        float* to = out + (first + row / heads) * out_stride + (head + row % heads) * head_dim;
        const F32x16 denominator = Set1(Reduce16(Load(scratch.lanes + row * 16)));
        for (int64_t d = 0; d < head_dim; d += 16) {
          Store(Div(Load(scratch.out + row * head_dim + d), denominator), to + d);
        }
      }
    }
    head += static_cast<int32_t>(heads);
  }
}

}  // namespace mach::kernels::MACH_SIMD
