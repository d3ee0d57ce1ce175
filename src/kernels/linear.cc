#include "kernels/linear.h"

#include <algorithm>

#include "base/check.h"
#include "kernels/kernels.h"

namespace mach::kernels {
namespace {

FloatType FloatTypeOf(DType dtype) {
  switch (dtype) {
    case DType::kF16:
      return FloatType::kF16;
    case DType::kBF16:
      return FloatType::kBF16;
    default:
      MACH_CHECK(dtype == DType::kF32);
      return FloatType::kF32;
  }
}

void Quantize(const LinearImpl& impl, const float* x, int64_t x_stride, int64_t row_begin,
              int64_t row_end, const QuantizedRows& out) {
  MACH_DCHECK(0 <= row_begin && row_begin <= row_end && row_end <= out.rows);
  MACH_DCHECK(out.cols % out.group_size == 0);
  const int64_t groups = out.cols / out.group_size;
  impl.quantize({.x = x + row_begin * x_stride,
                 .x_stride = x_stride,
                 .rows = row_end - row_begin,
                 .groups = groups,
                 .group_size = out.group_size,
                 .codes = out.codes + row_begin * out.cols,
                 .scales = out.scales + row_begin * groups,
                 .scaled_sums = out.scaled_sums + row_begin * groups});
}

void Affine(const LinearImpl& impl, const PackedView& weight, const QuantizedRows& x,
            int64_t strip_begin, int64_t strip_end, float* y, int64_t y_stride, void* scratch) {
  MACH_DCHECK(weight.spec.is_affine && x.cols == weight.spec.in_features);
  MACH_DCHECK(x.group_size == weight.spec.scheme.group_size);
  MACH_DCHECK(0 <= strip_begin && strip_end <= weight.spec.strips());
  if (strip_begin >= strip_end || x.rows == 0) {
    return;
  }
  const int64_t first = strip_begin * kStripOutputs;
  impl.affine({.data = weight.Strip(strip_begin),
               .strip_bytes = static_cast<int64_t>(weight.strip_bytes),
               .strips = strip_end - strip_begin,
               .outputs = std::min(strip_end * kStripOutputs, weight.spec.out_features) - first,
               .groups = x.cols / x.group_size,
               .group_size = x.group_size,
               .bits = weight.spec.scheme.bits,
               .type = FloatTypeOf(weight.spec.dtype),
               .bias = weight.bias == nullptr ? nullptr : weight.bias + first,
               .rows = x.rows,
               .codes = x.codes,
               .scales = x.scales,
               .scaled_sums = x.scaled_sums,
               .y = y + first,
               .y_stride = y_stride,
               .scratch = scratch});
}

void Dense(const LinearImpl& impl, const PackedView& weight, const float* x, int64_t x_stride,
           int64_t rows, int64_t strip_begin, int64_t strip_end, float* y, int64_t y_stride) {
  MACH_DCHECK(!weight.spec.is_affine);
  MACH_DCHECK(0 <= strip_begin && strip_end <= weight.spec.strips());
  if (strip_begin >= strip_end || rows == 0) {
    return;
  }
  const int64_t first = strip_begin * kStripOutputs;
  impl.dense({.data = weight.Strip(strip_begin),
              .strip_bytes = static_cast<int64_t>(weight.strip_bytes),
              .strips = strip_end - strip_begin,
              .outputs = std::min(strip_end * kStripOutputs, weight.spec.out_features) - first,
              .inputs = weight.spec.in_features,
              .type = FloatTypeOf(weight.spec.dtype),
              .bias = weight.bias == nullptr ? nullptr : weight.bias + first,
              .rows = rows,
              .x = x,
              .x_stride = x_stride,
              .y = y + first,
              .y_stride = y_stride});
}

// A table holds plain function pointers: one set of entries for each implementation.
template <const LinearImpl& kImpl>
struct Entries {
  static void QuantizeRows(const float* x, int64_t x_stride, int64_t row_begin, int64_t row_end,
                           const QuantizedRows& out) {
    Quantize(kImpl, x, x_stride, row_begin, row_end, out);
  }
  static void LinearAffine(const PackedView& weight, const QuantizedRows& x, int64_t strip_begin,
                           int64_t strip_end, float* y, int64_t y_stride, void* scratch) {
    Affine(kImpl, weight, x, strip_begin, strip_end, y, y_stride, scratch);
  }
  static void LinearFloat(const PackedView& weight, const float* x, int64_t x_stride, int64_t rows,
                          int64_t strip_begin, int64_t strip_end, float* y, int64_t y_stride) {
    Dense(kImpl, weight, x, x_stride, rows, strip_begin, strip_end, y, y_stride);
  }
};

template <const LinearImpl& kImpl>
void Fill(KernelTable& table) {
  table.quantize_rows = Entries<kImpl>::QuantizeRows;
  table.linear_affine = Entries<kImpl>::LinearAffine;
  table.linear_float = Entries<kImpl>::LinearFloat;
}

}  // namespace

uint64_t LinearScratchBytes(Isa isa, int64_t rows, int64_t cols) {
  if (isa != Isa::kAmxInt8) {
    return 0;
  }
  // See Scratch in linear_amx.cc; groups of 32 need the most.
  const int64_t tile_rows = std::min((rows + 15) / 16 * 16, kAmxRowBlock);
  const int64_t groups = cols / 32;
  return static_cast<uint64_t>(tile_rows * cols + tile_rows * groups * 8 + cols * kStripOutputs +
                               groups * kStripOutputs * 8 + 2 * 1024);
}

void FillLinearEntries(Isa isa, KernelTable& table) {
  switch (isa) {
#if defined(__x86_64__)
    case Isa::kAvx2:
      return Fill<kLinearAvx2>(table);
    case Isa::kAvx512Vnni:
      return Fill<kLinearAvx512>(table);
    case Isa::kAmxInt8:
      return Fill<kLinearAmx>(table);
#elif defined(__aarch64__)
    case Isa::kNeonDot:
      return Fill<kLinearNeon>(table);
#endif
    default:
      return Fill<kLinearScalar>(table);
  }
}

}  // namespace mach::kernels
