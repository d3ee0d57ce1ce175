// Linear kernels for AMX: integer dot products in tiles, everything else as in AVX-512.
//
// A tile product is 16 rows x 16 outputs x one group: A = activations (signed), B = weights
// (unsigned), which lie in VNNI order already. Per block of rows the activations are packed into
// contiguous tiles; per strip the codes are unpacked once and used by every tile of rows. A tile of
// integers goes through memory to be scaled; it is scaled one group later, so that the loads do
// not wait for the stores. The 16 x 16 accumulators stay in registers over all groups.
//
// Few rows are left to the AVX-512 variant, whose results are the same.

#include <immintrin.h>

#include "kernels/linear.h"
#include "kernels/unpack_avx512-inl.h"
#include "tensor/packed_layout.h"

namespace mach::kernels {
namespace {

constexpr int64_t kOutputs = 16;
constexpr int64_t kTileRows = 16;
constexpr int64_t kTileBytes = 1024;
// Below this many rows in a tile its products cost more than those of AVX-512.
constexpr int64_t kMinTileRows = 8;

// The operand of _tile_loadconfig.
struct alignas(64) TileConfig {
  uint8_t palette;
  uint8_t start_row;
  uint8_t reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
};

// Tiles 0 and 1 are products, 2 and 3 activations, 4 and 5 weights.
void Configure(int64_t tile_inputs) {
  TileConfig config = {};
  config.palette = 1;
  for (int tile = 0; tile < 6; ++tile) {
    config.rows[tile] = tile < 4 ? kTileRows : static_cast<uint8_t>(tile_inputs / 4);
    config.row_bytes[tile] =
        tile == 2 || tile == 3 ? static_cast<uint16_t>(tile_inputs) : uint16_t{64};
  }
  // g++ 12 believes that only the first bytes of the operand are read, and drops the stores.
  asm volatile("" ::"r"(&config) : "memory");
  _tile_loadconfig(&config);
}

// The parts of the caller's scratch, as LinearScratchBytes adds them up.
struct Scratch {
  int8_t* codes;        // [row tile, cols / tile inputs, 16, tile inputs]
  float* row_scales;    // [row tile, group, 2, 16]: scales, then scaled sums
  uint8_t* weights;     // [cols / 4, 16, 4]
  float* strip_scales;  // [group, 2, 16]: scales, then biases
  int32_t* dots;        // [2, 16, 16]
};

Scratch Divide(void* memory, int64_t tile_rows, int64_t cols, int64_t groups) {
  auto* at = static_cast<std::byte*>(memory);
  Scratch scratch = {};
  scratch.dots = reinterpret_cast<int32_t*>(at);
  at += 2 * kTileBytes;
  scratch.codes = reinterpret_cast<int8_t*>(at);
  at += tile_rows * cols;
  scratch.weights = reinterpret_cast<uint8_t*>(at);
  at += cols * kOutputs;
  scratch.strip_scales = reinterpret_cast<float*>(at);
  at += groups * kOutputs * 8;
  scratch.row_scales = reinterpret_cast<float*>(at);
  return scratch;
}

// Packs rows [begin, end) of the call; rows up to the next multiple of 16 become zero.
void PackRows(const AffineCall& call, int64_t begin, int64_t end, int64_t tile_inputs,
              const Scratch& scratch) {
  const int64_t cols = call.groups * call.group_size;
  const int64_t tile_rows = (end - begin + kTileRows - 1) / kTileRows * kTileRows;
  for (int64_t row = 0; row < tile_rows; ++row) {
    const bool real = begin + row < end;
    const int8_t* codes = call.codes + (begin + row) * cols;
    int8_t* out =
        scratch.codes + row / kTileRows * kTileRows * cols + row % kTileRows * tile_inputs;
    for (int64_t i = 0; i < cols; i += kSubInputs) {
      const __m256i part = real ? _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + i))
                                : _mm256_setzero_si256();
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(
                              out + i / tile_inputs * tile_inputs * kTileRows + i % tile_inputs),
                          part);
    }
    float* scales =
        scratch.row_scales + row / kTileRows * kTileRows * 2 * call.groups + row % kTileRows;
    for (int64_t group = 0; group < call.groups; ++group) {
      const int64_t at = (begin + row) * call.groups + group;
      scales[group * 2 * kTileRows] = real ? call.scales[at] : 0.0F;
      scales[group * 2 * kTileRows + kTileRows] = real ? call.scaled_sums[at] : 0.0F;
    }
  }
}

// Unpacks the codes of one strip into scratch.weights and its scales into scratch.strip_scales.
template <int kBits, int kSubs>
void UnpackStrip(const AffineCall& call, const std::byte* block, const Scratch& scratch) {
  constexpr int64_t kCodeBytes = kOutputs * kSubs * kSubInputs * kBits / 8;
  const int64_t half_bytes = call.type == FloatType::kF32 ? 64 : 32;
  uint8_t* out = scratch.weights;
  for (int64_t group = 0; group < call.groups; ++group) {
#pragma GCC unroll 4
    for (int sub = 0; sub < kSubs; ++sub) {
      __m512i w[kSubQuads];
      UnpackSub<kBits, kSubs>(block, sub, w);
#pragma GCC unroll 8
      for (int q = 0; q < kSubQuads; ++q) {
        _mm512_store_si512(out, w[q]);
        out += kLineBytes;
      }
    }
    float* scales = scratch.strip_scales + group * 2 * kOutputs;
    _mm512_store_ps(scales, LoadFloats(block + kCodeBytes, call.type));
    _mm512_store_ps(scales + kOutputs, LoadFloats(block + kCodeBytes + half_bytes, call.type));
    block += kCodeBytes + 2 * half_bytes;
  }
}

template <int kBits>
void UnpackStripOfBits(const AffineCall& call, const std::byte* block, const Scratch& scratch) {
  switch (call.group_size) {
    case 32:
      return UnpackStrip<kBits, 1>(call, block, scratch);
    case 64:
      return UnpackStrip<kBits, 2>(call, block, scratch);
    default:
      return UnpackStrip<kBits, 4>(call, block, scratch);
  }
}

void UnpackAnyStrip(const AffineCall& call, const std::byte* block, const Scratch& scratch) {
  switch (call.bits) {
    case 2:
      return UnpackStripOfBits<2>(call, block, scratch);
    case 3:
      return UnpackStripOfBits<3>(call, block, scratch);
    case 4:
      return UnpackStripOfBits<4>(call, block, scratch);
    case 5:
      return UnpackStripOfBits<5>(call, block, scratch);
    case 6:
      return UnpackStripOfBits<6>(call, block, scratch);
    default:
      return UnpackStripOfBits<8>(call, block, scratch);
  }
}

// Dot products of group `group` of a row tile into dots. Groups of 32 have a tile of 32 inputs,
// of 64 one, of 128 two of 64; the configuration knows which.
template <int kSubs, bool kOdd>
__attribute__((always_inline)) inline void DotGroup(const int8_t* codes, const uint8_t* weights,
                                                    int64_t group, int32_t* dots) {
  constexpr int64_t kInputs = kSubs == 1 ? 32 : 64;
  constexpr int64_t kParts = kSubs == 4 ? 2 : 1;
  codes += group * kParts * kInputs * kTileRows;
  weights += group * kParts * kInputs * kOutputs;
  // Tile numbers are literals; even and odd groups use different ones, to overlap.
  if constexpr (kOdd) {
    _tile_zero(1);
#pragma GCC unroll 2
    for (int64_t part = 0; part < kParts; ++part) {
      _tile_loadd(3, codes + part * kInputs * kTileRows, kInputs);
      _tile_loadd(5, weights + part * kInputs * kOutputs, 64);
      _tile_dpbsud(1, 3, 5);
    }
    _tile_stored(1, dots + kTileBytes / 4, 64);
  } else {
    _tile_zero(0);
#pragma GCC unroll 2
    for (int64_t part = 0; part < kParts; ++part) {
      _tile_loadd(2, codes + part * kInputs * kTileRows, kInputs);
      _tile_loadd(4, weights + part * kInputs * kOutputs, 64);
      _tile_dpbsud(0, 2, 4);
    }
    _tile_stored(0, dots, 64);
  }
}

__attribute__((always_inline)) inline void ScaleGroup(const int32_t* dots, const float* row_scales,
                                                      const float* strip_scales,
                                                      __m512 (&acc)[kTileRows]) {
  const __m512 scale = _mm512_load_ps(strip_scales);
  const __m512 bias = _mm512_load_ps(strip_scales + kOutputs);
#pragma GCC unroll 16
  for (int r = 0; r < kTileRows; ++r) {
    const __m512 dot = _mm512_cvtepi32_ps(_mm512_load_si512(dots + r * kOutputs));
    const __m512 product = _mm512_mul_ps(scale, _mm512_set1_ps(row_scales[r]));
    acc[r] = _mm512_fmadd_ps(dot, product, acc[r]);
    acc[r] = _mm512_fmadd_ps(bias, _mm512_set1_ps(row_scales[kTileRows + r]), acc[r]);
  }
}

// One row tile x one strip. `rows` of the tile are written to y.
template <int kSubs>
void RowTile(const Scratch& scratch, const int8_t* codes, const float* row_scales, int64_t groups,
             const float* bias, __mmask16 mask, int64_t rows, float* y, int64_t y_stride) {
  __m512 acc[kTileRows];
#pragma GCC unroll 16
  for (int r = 0; r < kTileRows; ++r) {
    acc[r] = _mm512_setzero_ps();
  }
  int32_t* dots = scratch.dots;
  const float* strip_scales = scratch.strip_scales;
  constexpr int64_t kStep = 2 * kTileRows;
  DotGroup<kSubs, false>(codes, scratch.weights, 0, dots);
  int64_t group = 0;
  for (; group + 2 < groups; group += 2) {
    DotGroup<kSubs, true>(codes, scratch.weights, group + 1, dots);
    ScaleGroup(dots, row_scales + group * kStep, strip_scales + group * kStep, acc);
    DotGroup<kSubs, false>(codes, scratch.weights, group + 2, dots);
    ScaleGroup(dots + kTileBytes / 4, row_scales + (group + 1) * kStep,
               strip_scales + (group + 1) * kStep, acc);
  }
  if (group + 1 < groups) {
    DotGroup<kSubs, true>(codes, scratch.weights, group + 1, dots);
  }
  ScaleGroup(dots, row_scales + group * kStep, strip_scales + group * kStep, acc);
  if (group + 1 < groups) {
    ScaleGroup(dots + kTileBytes / 4, row_scales + (group + 1) * kStep,
               strip_scales + (group + 1) * kStep, acc);
  }
#pragma GCC unroll 16
  for (int r = 0; r < kTileRows; ++r) {
    if (r < rows) {
      if (bias != nullptr) {
        acc[r] = _mm512_add_ps(acc[r], _mm512_loadu_ps(bias));
      }
      _mm512_mask_storeu_ps(y + r * y_stride, mask, acc[r]);
    }
  }
}

template <int kSubs>
void RowBlock(const AffineCall& call, int64_t begin, int64_t end, const Scratch& scratch) {
  const int64_t cols = call.groups * call.group_size;
  PackRows(call, begin, end, kSubs == 1 ? 32 : 64, scratch);
  for (int64_t strip = 0; strip < call.strips; ++strip) {
    UnpackAnyStrip(call, call.data + strip * call.strip_bytes, scratch);
    const int64_t valid = call.outputs - strip * kOutputs;
    const auto mask = static_cast<__mmask16>(valid >= kOutputs ? 0xffff : (1 << valid) - 1);
    const float* bias = call.bias == nullptr ? nullptr : call.bias + strip * kOutputs;
    for (int64_t row = begin; row < end; row += kTileRows) {
      const int64_t rows = end - row < kTileRows ? end - row : kTileRows;
      RowTile<kSubs>(scratch, scratch.codes + (row - begin) * cols,
                     scratch.row_scales + (row - begin) * 2 * call.groups, call.groups, bias, mask,
                     rows, call.y + row * call.y_stride + strip * kOutputs, call.y_stride);
    }
  }
}

void AffineAmx(const AffineCall& call) {
  const int64_t remainder = call.rows % kTileRows;
  const int64_t tiled = remainder >= kMinTileRows ? call.rows : call.rows - remainder;
  const int64_t cols = call.groups * call.group_size;
  if (tiled > 0) {
    const int64_t block = tiled < kAmxRowBlock ? tiled : kAmxRowBlock;
    const int64_t block_rows = (block + kTileRows - 1) / kTileRows * kTileRows;
    const Scratch scratch = Divide(call.scratch, block_rows, cols, call.groups);
    Configure(call.group_size == 32 ? 32 : 64);
    for (int64_t begin = 0; begin < tiled; begin += block) {
      const int64_t end = begin + block < tiled ? begin + block : tiled;
      switch (call.group_size) {
        case 32:
          RowBlock<1>(call, begin, end, scratch);
          break;
        case 64:
          RowBlock<2>(call, begin, end, scratch);
          break;
        default:
          RowBlock<4>(call, begin, end, scratch);
          break;
      }
    }
    _tile_release();
  }
  if (tiled < call.rows) {
    AffineCall rest = call;
    rest.rows = call.rows - tiled;
    rest.codes += tiled * cols;
    rest.scales += tiled * call.groups;
    rest.scaled_sums += tiled * call.groups;
    rest.y += tiled * call.y_stride;
    kLinearAvx512.affine(rest);
  }
}

void QuantizeAmx(const QuantizeCall& call) {
  kLinearAvx512.quantize(call);
}
void DenseAmx(const FloatCall& call) {
  kLinearAvx512.dense(call);
}

}  // namespace

const LinearImpl kLinearAmx = {QuantizeAmx, AffineAmx, DenseAmx};

}  // namespace mach::kernels
