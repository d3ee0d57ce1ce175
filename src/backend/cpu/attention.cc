#include "backend/cpu/attention.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "backend/cpu/cpu_kv_store.h"
#include "base/check.h"
#include "kernels/kernels.h"

namespace mach::backend {
namespace {

// Elements of keys and values that the calling thread stores alone. Fewer than what it computes
// alone: the elements of a key lie a cache line apart.
constexpr int64_t kSerialStores = CpuContext::kSerialElements / 4;

class StepAttention {
 public:
  StepAttention(CpuContext& context, const Tensor& q, int32_t layer, const AttentionSpec& spec,
                std::span<const RowSpan> spans)
      : context_(context),
        q_(q),
        out_(context.New(q.rows, q.cols)),
        shape_({.q_heads = spec.q_heads, .scale = spec.scale, .window = spec.window}),
        spans_(spans) {
    for (const RowSpan& span : spans) {
      views_.push_back(static_cast<const CpuKvStore*>(span.kv)->Layer(layer));
      MACH_DCHECK(views_.back().head_dim == spec.head_dim);
      total_pairs_ += Pairs(span, span.rows);
    }
    scratch_stride_ = (kernels::AttentionScratchBytes(shape_, spec.head_dim) + 63) / 64 * 64;
  }

  // A block of positions is stored by one thread: the positions of a key share cache lines.
  void Store(const Tensor& k, const Tensor& v) {
    int64_t blocks = 0;
    for (const RowSpan& span : spans_) {
      blocks += EndBlock(span) - FirstBlock(span);
    }
    const int64_t grain = k.rows * (k.cols + v.cols) <= kSerialStores ? blocks : 1;
    context_.pool.ParallelFor(blocks, grain, [&](int64_t begin, int64_t end, int) {
      int64_t at = 0;  // the first of the span's blocks within all
      for (size_t i = 0; i < spans_.size(); ++i) {
        const RowSpan& span = spans_[i];
        const int64_t shift = at - FirstBlock(span);
        at += EndBlock(span) - FirstBlock(span);
        // The rows whose positions lie in the blocks [begin, end) of all.
        const auto row = [&](int64_t block) {
          return std::clamp((block - shift) * kernels::kKvBlockTokens - span.first_position,
                            int64_t{0}, span.rows);
        };
        const int64_t first = row(begin);
        const int64_t rows = row(end) - first;
        if (rows > 0) {
          context_.table.store_kv(views_[i], span.first_position + first, rows,
                                  Data(k) + (span.first_row + first) * k.cols, k.cols,
                                  Data(v) + (span.first_row + first) * v.cols, v.cols);
        }
      }
    });
  }

  Tensor Attend() {
    const uint64_t mark = context_.arena.Mark();
    const int64_t team = context_.pool.threads();
    scratch_ = context_.arena.Allocate<std::byte>(static_cast<int64_t>(scratch_stride_) * team);
    if (total_pairs_ * q_.cols <= CpuContext::kSerialElements) {
      context_.pool.RunAlone([&] { AttendPart(0, 1); });
    } else {
      context_.pool.Run([&](int worker) { AttendPart(worker, team); });
    }
    context_.arena.Release(mark);
    return out_;
  }

 private:
  static int64_t FirstBlock(const RowSpan& span) {
    return span.first_position / kernels::kKvBlockTokens;
  }
  static int64_t EndBlock(const RowSpan& span) {
    return (span.first_position + span.rows + kernels::kKvBlockTokens - 1) /
           kernels::kKvBlockTokens;
  }

  // What there is to do for each head: (query, key) pairs of the first `rows` rows of a span.
  static int64_t Pairs(const RowSpan& span, int64_t rows) {
    return rows * span.first_position + rows * (rows + 1) / 2;
  }

  // The first rows of a span that have about so many pairs; all rows for all pairs.
  static int64_t RowsWith(const RowSpan& span, int64_t pairs) {
    const double before = static_cast<double>(span.first_position) + 0.5;
    const double rows = std::sqrt(before * before + 2 * static_cast<double>(pairs)) - before;
    return std::clamp(static_cast<int64_t>(std::lround(rows)), int64_t{0}, span.rows);
  }

  // Part `part` of `parts` of the list.
  void AttendPart(int64_t part, int64_t parts) {
    const int64_t begin = total_pairs_ * part / parts;
    const int64_t end = total_pairs_ * (part + 1) / parts;
    const auto worker = static_cast<int>(part);
    int64_t at = 0;
    for (size_t i = 0; i < spans_.size(); ++i) {
      const RowSpan& span = spans_[i];
      const int64_t pairs = Pairs(span, span.rows);
      const int64_t from = std::clamp(begin - at, int64_t{0}, pairs);
      const int64_t to = std::clamp(end - at, int64_t{0}, pairs);
      at += pairs;
      if (from == to) {
        continue;
      }
      if (span.rows < 8 * static_cast<int64_t>(context_.pool.threads())) {
        AttendInBlocks(i, 0, span.rows, static_cast<int32_t>(shape_.q_heads * from / pairs),
                       static_cast<int32_t>(shape_.q_heads * to / pairs), worker);
      } else {
        AttendInBlocks(i, RowsWith(span, from), RowsWith(span, to), 0, shape_.q_heads, worker);
      }
    }
  }

  // Looks at the cancel flag between blocks of work. The kernel takes the heads of a key head
  // together, and their rows in tiles: cut there, its work goes on in the same order.
  void AttendInBlocks(size_t span_index, int64_t row_begin, int64_t row_end, int32_t head_begin,
                      int32_t head_end, int worker) {
    if (row_begin >= row_end || head_begin >= head_end) {
      return;
    }
    const RowSpan& span = spans_[span_index];
    const int32_t group = shape_.q_heads / views_[span_index].kv_heads;
    // Multiply-adds of a row of one head.
    const int64_t row_work = 2 * (span.first_position + row_end) * views_[span_index].head_dim;
    if ((row_end - row_begin) * (head_end - head_begin) * row_work <= CpuContext::kWorkPerLook) {
      AttendBlock(span_index, row_begin, row_end, head_begin, head_end, worker);
      return;
    }
    for (int32_t head = head_begin; head < head_end;) {
      const int32_t end = std::min((head / group + 1) * group, head_end);
      const int64_t tile = std::max<int64_t>(kernels::kAttentionTileRows / (end - head), 1);
      const int64_t tile_work = tile * (end - head) * row_work;
      const int64_t rows = tile * std::max<int64_t>(CpuContext::kWorkPerLook / tile_work, 1);
      for (int64_t begin = row_begin; begin < row_end; begin += rows) {
        AttendBlock(span_index, begin, std::min(begin + rows, row_end), head, end, worker);
      }
      head = end;
    }
  }

  void AttendBlock(size_t span_index, int64_t row_begin, int64_t row_end, int32_t head_begin,
                   int32_t head_end, int worker) {
    context_.CheckCancelled();
    const RowSpan& span = spans_[span_index];
    const int64_t row = span.first_row + row_begin;
    context_.table.attention(views_[span_index], shape_, span.first_position + row_begin,
                             row_end - row_begin, Data(q_) + row * q_.cols, q_.cols, head_begin,
                             head_end, Data(out_) + row * out_.cols, out_.cols,
                             scratch_ + scratch_stride_ * static_cast<uint64_t>(worker));
  }

  CpuContext& context_;
  const Tensor q_;
  const Tensor out_;
  const kernels::AttentionShape shape_;
  const std::span<const RowSpan> spans_;
  std::vector<kernels::KvLayerView> views_;  // of each span
  int64_t total_pairs_ = 0;
  uint64_t scratch_stride_ = 0;
  std::byte* scratch_ = nullptr;
};

}  // namespace

Tensor AttendStep(CpuContext& context, const Tensor& q, const Tensor& k, const Tensor& v,
                  int32_t layer, const AttentionSpec& spec, std::span<const RowSpan> spans) {
  StepAttention attention(context, q, layer, spec, spans);
  attention.Store(k, v);
  return attention.Attend();
}

}  // namespace mach::backend
