#include "backend/cpu/linear_ops.h"

#include <algorithm>

#include "base/check.h"

namespace mach::backend {
namespace {

using kernels::QuantizedRows;

// Rows of a linear layer between two looks at the cancel flag: a multiple of the blocks in which
// kernels take them, and many enough that reading the weights again for each costs nothing.
constexpr int64_t kRowsPerLook = 2048;

// The first strip of a weight, whose bytes begin at `weight_at` of all, that begins at or after
// `position`.
int64_t FirstStripFrom(const PackedView& packed, uint64_t weight_at, uint64_t position) {
  if (position <= weight_at) {
    return 0;
  }
  const uint64_t strip = (position - weight_at + packed.strip_bytes - 1) / packed.strip_bytes;
  return std::min(packed.spec.strips(), static_cast<int64_t>(strip));
}

}  // namespace

kernels::QuantizedRows NewQuantizedRows(Arena& arena, int64_t rows, int64_t cols,
                                        int32_t group_size) {
  const int64_t groups = cols / group_size;
  return {.rows = rows,
          .cols = cols,
          .group_size = group_size,
          .codes = arena.Allocate<int8_t>(rows * cols),
          .scales = arena.Allocate<float>(rows * groups),
          .scaled_sums = arena.Allocate<float>(rows * groups)};
}

QuantizedRows RowsOf(const QuantizedRows& all, int64_t first, int64_t count) {
  const int64_t groups = all.cols / all.group_size;
  QuantizedRows rows = all;
  rows.rows = count;
  rows.codes += first * all.cols;
  rows.scales += first * groups;
  rows.scaled_sums += first * groups;
  return rows;
}

void QuantizedInput::Prepare(int32_t group_size) {
  for (const QuantizedRows& rows : quantized_) {
    if (rows.group_size == group_size) {
      return;
    }
  }
  const QuantizedRows rows = NewQuantizedRows(context_.arena, x_.rows, x_.cols, group_size);
  context_.ForRows(x_, [&](int64_t row) {
    context_.table.quantize_rows(Data(x_), x_.cols, row, row + 1, rows);
  });
  quantized_.push_back(rows);
}

const kernels::QuantizedRows& QuantizedInput::Get(int32_t group_size) const {
  const auto found =
      std::find_if(quantized_.begin(), quantized_.end(),
                   [&](const QuantizedRows& rows) { return rows.group_size == group_size; });
  MACH_CHECK(found != quantized_.end());
  return *found;
}

LinearScratch::LinearScratch(CpuContext& context, int64_t rows, int64_t cols)
    : stride_bytes_((kernels::LinearScratchBytes(context.table.isa, rows, cols) + 63) / 64 * 64) {
  if (stride_bytes_ > 0) {
    data_ = context.arena.Allocate<std::byte>(static_cast<int64_t>(stride_bytes_) *
                                              context.pool.threads());
  }
}

void LinearGroup(CpuContext& context, const Tensor& x, std::span<const LinearWeight* const> weights,
                 std::span<Tensor> out) {
  MACH_DCHECK(weights.size() == out.size());
  for (size_t i = 0; i < weights.size(); ++i) {
    MACH_DCHECK(weights[i]->in_features() == x.cols);
    out[i] = context.New(x.rows, weights[i]->out_features());
  }
  const uint64_t mark = context.arena.Mark();
  QuantizedInput quantized(context, x);
  uint64_t total_bytes = 0;
  int64_t total_strips = 0;
  for (const LinearWeight* weight : weights) {
    const PackedSpec& spec = Packed(*weight).spec;
    if (spec.is_affine) {
      quantized.Prepare(spec.scheme.group_size);
    }
    total_bytes += spec.bytes();
    total_strips += spec.strips();
  }
  const LinearScratch scratch(context, quantized.empty() ? 0 : x.rows, x.cols);

  // The strips of all weights are one list of work, cut into equal bytes for the threads.
  const auto share = [&](int worker, int workers) {
    const auto team = static_cast<uint64_t>(workers);
    const uint64_t begin = total_bytes * static_cast<uint64_t>(worker) / team;
    const uint64_t end = total_bytes * (static_cast<uint64_t>(worker) + 1) / team;
    uint64_t at = 0;
    for (size_t i = 0; i < weights.size(); ++i) {
      const PackedView& packed = Packed(*weights[i]);
      // A strip belongs to the worker in whose range its first byte lies.
      const int64_t first = FirstStripFrom(packed, at, begin);
      const int64_t last = FirstStripFrom(packed, at, end);
      at += packed.spec.bytes();
      if (first >= last) {
        continue;
      }
      for (int64_t row = 0; row < x.rows; row += kRowsPerLook) {
        context.CheckCancelled();
        const int64_t rows = std::min(kRowsPerLook, x.rows - row);
        float* y = Data(out[i]) + row * out[i].cols;
        if (packed.spec.is_affine) {
          const QuantizedRows& all = quantized.Get(packed.spec.scheme.group_size);
          context.table.linear_affine(packed, RowsOf(all, row, rows), first, last, y, out[i].cols,
                                      scratch.Of(worker));
        } else {
          context.table.linear_float(packed, Data(x) + row * x.cols, x.cols, rows, first, last, y,
                                     out[i].cols);
        }
      }
    }
  };
  if (total_strips <= 1) {
    context.pool.RunAlone([&] { share(0, 1); });
  } else {
    context.pool.Run([&](int worker) { share(worker, context.pool.threads()); });
  }
  context.arena.Release(mark);
}

}  // namespace mach::backend
