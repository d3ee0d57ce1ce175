// Attention, written once over F32x16 (see simd-inl.h) and compiled per instruction set. The
// definition stands in kernels.h.
//
// A tile is up to kAttentionTileRows rows, a row being one query of one head; all rows of a tile
// share a kv head. The tile walks the KV blocks once. A block is converted to fp32 once for a tile
// (decode, with few rows, converts in registers instead), then row groups of kScoreRows run over
// it: scores, softmax step, weighted values. What differs between instruction sets is how many rows
// and vectors are in flight, never the chain of one row.

namespace mach::kernels::MACH_SIMD {

struct AttentionTile {
  const KvLayerView* kv;
  int32_t kv_head;
  int64_t rows;        // queries * heads
  int64_t group_rows;  // rows of a row group, the last may have fewer
  int64_t window;      // 0 = all
  float scale;
  int64_t positions[kAttentionTileRows];  // of each row's query, ascending
};

// Splits `count` into the fewest parts of at most `limit`, as even as can be: the size of a part.
MACH_INLINE int64_t EvenPart(int64_t count, int64_t limit) {
  const int64_t parts = (count + limit - 1) / limit;
  return (count + parts - 1) / parts;
}

inline VisibleRange RowRange(const AttentionTile& tile, int64_t row, int64_t block) {
  const int64_t end = tile.positions[row] + 1 - block * kKvBlockTokens;
  const int64_t begin = tile.window > 0 ? end - tile.window : 0;
  return {begin > 0 ? begin : 0, end < kKvBlockTokens ? end : kKvBlockTokens};
}

// One row group over one block. K and V are those of the tile's kv head.
template <class T>
inline void GroupStep(const AttentionTile& tile, const AttentionScratch& scratch, int64_t first_row,
                      int64_t rows, int64_t block, const T* keys, const T* next_keys,
                      const T* values, const T* next_values) {
  const int64_t head_dim = tile.kv->head_dim;
  const VisibleRange first = RowRange(tile, first_row, block);
  const VisibleRange last = RowRange(tile, first_row + rows - 1, block);
  if (last.end <= 0 || first.begin >= kKvBlockTokens) {
    return;
  }
  const bool all_visible = last.begin == 0 && first.end == kKvBlockTokens;
  VisibleRange ranges[AttentionScratch::kMaxGroupRows];
  for (int64_t r = 0; r < rows; ++r) {
    ranges[r] =
        all_visible ? VisibleRange{0, kKvBlockTokens} : RowRange(tile, first_row + r, block);
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
  const int64_t value_rows = EvenPart(rows, kValueRows);
  for (int64_t r = 0; r < rows; r += value_rows) {
    const int64_t count = rows - r < value_rows ? rows - r : value_rows;
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
  const int64_t last_block = tile.positions[tile.rows - 1] / kKvBlockTokens;
  int64_t first_key = tile.window > 0 ? tile.positions[0] - tile.window + 1 : 0;
  first_key = first_key > 0 ? first_key : 0;
  // Worth it from the second row group on; fp32 needs no conversion.
  const bool convert = sizeof(T) != sizeof(float) && tile.rows > tile.group_rows;

  for (int64_t block = first_key / kKvBlockTokens; block <= last_block; ++block) {
    // Two blocks ahead: one takes about as long as a read from memory.
    const int64_t next = block + 2 <= last_block ? block + 2 : last_block;
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
    for (int64_t row = 0; row < tile.rows; row += tile.group_rows) {
      const int64_t rows = tile.rows - row < tile.group_rows ? tile.rows - row : tile.group_rows;
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
      AttentionTile tile;
      tile.kv = &kv;
      tile.kv_head = kv_head;
      tile.rows = rows;
      tile.group_rows = EvenPart(rows, kScoreRows);
      tile.window = shape.window;
      tile.scale = shape.scale;
      for (int64_t row = 0; row < rows; ++row) {
        tile.positions[row] = first_position + first + row / heads;
        for (int64_t d = 0; d < head_dim; d += 16) {
          Store(Zero(), scratch.out + row * head_dim + d);
        }
        Store(Zero(), scratch.lanes + row * 16);
        scratch.maxima[row] = -__builtin_inff();
      }
      for (int64_t row = 0; row < rows; row += tile.group_rows) {
        const int64_t width = rows - row < tile.group_rows ? rows - row : tile.group_rows;
        const float* from[AttentionScratch::kMaxGroupRows];
        for (int64_t r = 0; r < width; ++r) {
          from[r] =
              q + (first + (row + r) / heads) * q_stride + (head + (row + r) % heads) * head_dim;
        }
        float* to = scratch.q + row * head_dim;
        for (int64_t d = 0; d < head_dim; ++d) {
          for (int64_t r = 0; r < width; ++r) {
            *to++ = from[r][d];
          }
        }
      }
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
