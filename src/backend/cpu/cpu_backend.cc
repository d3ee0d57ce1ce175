#include "backend/cpu/cpu_backend.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "backend/cpu/cpu_context.h"
#include "backend/cpu/cpu_kv_store.h"
#include "backend/cpu/cpu_recurrent_store.h"
#include "backend/cpu/expert_mixture.h"
#include "backend/cpu/gated_delta.h"
#include "backend/cpu/linear_ops.h"
#include "backend/cpu/routing.h"
#include "base/check.h"
#include "kernels/kernels.h"
#include "tensor/packed_linear.h"
#include "tensor/quant.h"

namespace mach::backend {
namespace {

class CpuBackend final : public Backend {
 public:
  CpuBackend(MemoryBudget& budget, const CpuOptions& options)
      : context_(budget, kernels::Kernels(options.isa),
                 options.threads > 0 ? options.threads : PhysicalCores()),
        table_(context_.table) {}

  std::string name() const override { return "cpu"; }
  std::string isa() const override { return std::string(IsaName(table_.isa)); }
  int threads() const override { return context_.pool.threads(); }
  bool groups_expert_rows() const override { return true; }

  std::unique_ptr<LinearWeight> LoadLinear(const LinearData& data, const char* owner) override {
    MACH_CHECK(data.affine.has_value() != data.dense.has_value());
    const TensorView* bias = data.bias ? &*data.bias : nullptr;
    return std::make_unique<CpuLinear>(
        data.affine
            ? PackedLinear::FromAffine(context_.budget, owner, *data.affine, bias, context_.pool)
            : PackedLinear::FromFloat(context_.budget, owner, *data.dense, bias, context_.pool));
  }

  std::unique_ptr<VectorWeight> LoadVector(const TensorView& data) override {
    std::vector<float> values(static_cast<size_t>(data.shape.Elements()));
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = FloatElement(data, static_cast<int64_t>(i));
    }
    return std::make_unique<CpuVector>(std::move(values));
  }

  std::shared_ptr<KvPool> NewKvPool(const KvShape& shape) override {
    return std::make_shared<CpuKvPool>(context_.budget, shape);
  }

  std::unique_ptr<RecurrentStore> NewRecurrentStore(const RecurrentShape& shape) override {
    return std::make_unique<CpuRecurrentStore>(context_, shape);
  }

  void ReserveActivations(uint64_t bytes) override { context_.arena.Reserve(bytes); }
  uint64_t Mark() override { return context_.arena.Mark(); }
  void Release(uint64_t mark) override { context_.arena.Release(mark); }
  const std::atomic<bool>* WatchCancel(const std::atomic<bool>* cancel) override {
    return std::exchange(context_.cancel, cancel);
  }

  Tensor Embed(const LinearWeight& table, std::span<const int32_t> ids) override {
    const PackedView& packed = Packed(table);
    const Tensor out = context_.New(static_cast<int64_t>(ids.size()), packed.spec.in_features);
    context_.ForRows(out, [&](int64_t row) {
      packed.UnpackRow(ids[static_cast<size_t>(row)],
                       {Data(out) + row * out.cols, static_cast<size_t>(out.cols)});
    });
    return out;
  }

  Tensor RmsNorm(const Tensor& x, const VectorWeight& gain, float eps) override {
    const auto& weight = static_cast<const CpuVector&>(gain);
    MACH_DCHECK(x.cols % weight.size() == 0);
    const Tensor out = context_.New(x.rows, x.cols);
    context_.ForRows(x, [&](int64_t row) {
      for (int64_t at = row * x.cols; at < (row + 1) * x.cols; at += weight.size()) {
        table_.rms_norm(Data(x) + at, weight.data(), eps, weight.size(), Data(out) + at);
      }
    });
    return out;
  }

  void Linear(const Tensor& x, std::span<const LinearWeight* const> weights,
              std::span<Tensor> out) override {
    LinearGroup(context_, x, weights, out);
  }

  void Rope(const Tensor& x, int32_t heads, const RopeSpec& spec,
            std::span<const RowSpan> spans) override {
    const auto pairs = static_cast<int64_t>(spec.inv_freq.size());
    const int64_t head_dim = x.cols / heads;
    const RopeAngles& angles = Angles(spec, spans, x.rows);
    context_.ForRows(x, [&](int64_t row) {
      const float* cos = angles.cos.data() + row * pairs;
      const float* sin = angles.sin.data() + row * pairs;
      for (int32_t head = 0; head < heads; ++head) {
        table_.rope_half(Data(x) + row * x.cols + head * head_dim, cos, sin, pairs);
      }
    });
  }

  Tensor Attention(const Tensor& q, const Tensor& k, const Tensor& v, int32_t layer,
                   const AttentionSpec& spec, std::span<const RowSpan> spans) override {
    const Tensor out = context_.New(q.rows, q.cols);
    const uint64_t mark = context_.arena.Mark();
    const kernels::AttentionShape shape{
        .q_heads = spec.q_heads, .scale = spec.scale, .window = spec.window};
    const uint64_t scratch_stride =
        (kernels::AttentionScratchBytes(shape, spec.head_dim) + 63) / 64 * 64;
    auto* scratch =
        context_.arena.Allocate<std::byte>(static_cast<int64_t>(scratch_stride) * threads());
    for (const RowSpan& span : spans) {
      const kernels::KvLayerView kv = static_cast<CpuKvStore*>(span.kv)->Layer(layer);
      table_.store_kv(kv, span.first_position, span.rows, Data(k) + span.first_row * k.cols, k.cols,
                      Data(v) + span.first_row * v.cols, v.cols);
      AttendSpan(kv, shape, span, q, out, scratch, scratch_stride);
    }
    context_.arena.Release(mark);
    return out;
  }

  void SigmoidGateInPlace(const Tensor& x, const Tensor& gate) override {
    MACH_DCHECK(x.rows == gate.rows && x.cols == gate.cols);
    context_.ForRows(x, [&](int64_t row) {
      table_.sigmoid_gate(Data(x) + row * x.cols, Data(gate) + row * x.cols, x.cols);
    });
  }

  void SplitHeads(const Tensor& x, int32_t heads, Tensor& a, Tensor& b) override {
    const int64_t half = x.cols / 2;
    const int64_t head_dim = half / heads;
    MACH_DCHECK(x.cols == 2 * heads * head_dim);
    a = context_.New(x.rows, half);
    b = context_.New(x.rows, half);
    context_.ForRows(x, [&](int64_t row) {
      const float* from = Data(x) + row * x.cols;
      for (int64_t at = row * half; at < (row + 1) * half; at += head_dim) {
        std::copy_n(from, head_dim, Data(a) + at);
        std::copy_n(from + head_dim, head_dim, Data(b) + at);
        from += 2 * head_dim;
      }
    });
  }

  Tensor GatedDelta(const GatedDeltaInput& input, const GatedDeltaWeights& weights,
                    const GatedDeltaSpec& spec, int32_t layer,
                    std::span<const RowSpan> spans) override {
    return GatedDeltaLayer(context_, input, weights, spec, layer, spans);
  }

  Routing Route(const Tensor& logits, const RouterSpec& spec) override {
    return RouteRows(context_, logits, spec);
  }

  Tensor ExpertMixture(const Tensor& x, const Routing& routing, const ExpertLayout& layout,
                       ExpertLease& lease) override {
    return MixExperts(context_, x, routing, layout, lease);
  }

  void AddGatedInPlace(const Tensor& x, const Tensor& y, const Tensor& gate) override {
    MACH_DCHECK(x.rows == y.rows && x.cols == y.cols && gate.rows == x.rows && gate.cols == 1);
    context_.ForRows(x, [&](int64_t row) {
      float weight = 0;
      table_.sigmoid(Data(gate) + row, 1, &weight);
      table_.add_scaled(Data(x) + row * x.cols, Data(y) + row * x.cols, weight, x.cols);
    });
  }

  Tensor SwiGlu(const Tensor& gate, const Tensor& up) override {
    MACH_DCHECK(gate.rows == up.rows && gate.cols == up.cols);
    const Tensor out = context_.New(gate.rows, gate.cols);
    context_.ForRows(gate, [&](int64_t row) {
      const int64_t at = row * gate.cols;
      table_.swiglu(Data(gate) + at, Data(up) + at, gate.cols, Data(out) + at);
    });
    return out;
  }

  void AddInPlace(const Tensor& x, const Tensor& y) override {
    MACH_DCHECK(x.rows == y.rows && x.cols == y.cols);
    context_.ForRows(x, [&](int64_t row) {
      table_.add(Data(x) + row * x.cols, Data(y) + row * x.cols, x.cols);
    });
  }

  Tensor TakeRows(const Tensor& x, std::span<const int64_t> rows) override {
    const Tensor out = context_.New(static_cast<int64_t>(rows.size()), x.cols);
    for (size_t i = 0; i < rows.size(); ++i) {
      MACH_DCHECK(rows[i] >= 0 && rows[i] < x.rows);
      std::memcpy(Data(out) + static_cast<int64_t>(i) * x.cols, Data(x) + rows[i] * x.cols,
                  static_cast<size_t>(x.cols) * sizeof(float));
    }
    return out;
  }

  std::span<const float> Read(const Tensor& x) override {
    return {Data(x), static_cast<size_t>(x.rows * x.cols)};
  }

 private:
  struct RopeAngles {
    RopeSpec spec;
    std::vector<int64_t> positions;
    std::vector<float> cos;  // [rows, pairs]
    std::vector<float> sin;
  };

  // All layers of a step rotate by the same angles: computed once, in double.
  const RopeAngles& Angles(const RopeSpec& spec, std::span<const RowSpan> spans, int64_t rows) {
    std::vector<int64_t> positions(static_cast<size_t>(rows), 0);
    for (const RowSpan& span : spans) {
      for (int64_t row = 0; row < span.rows; ++row) {
        positions[static_cast<size_t>(span.first_row + row)] = span.first_position + row;
      }
    }
    if (angles_.spec == spec && angles_.positions == positions) {
      return angles_;
    }
    const size_t pairs = spec.inv_freq.size();
    angles_.spec = spec;
    angles_.cos.resize(positions.size() * pairs);
    angles_.sin.resize(positions.size() * pairs);
    for (size_t row = 0; row < positions.size(); ++row) {
      for (size_t pair = 0; pair < pairs; ++pair) {
        const double angle = static_cast<double>(positions[row]) * spec.inv_freq[pair];
        angles_.cos[row * pairs + pair] = static_cast<float>(std::cos(angle) * spec.amplitude);
        angles_.sin[row * pairs + pair] = static_cast<float>(std::sin(angle) * spec.amplitude);
      }
    }
    angles_.positions = std::move(positions);
    return angles_;
  }

  // Decode splits heads between threads; prefill splits rows, cut so that each thread gets the same
  // number of (query, key) pairs.
  void AttendSpan(const kernels::KvLayerView& kv, const kernels::AttentionShape& shape,
                  const RowSpan& span, const Tensor& q, const Tensor& out, std::byte* scratch,
                  uint64_t scratch_stride) {
    const auto run = [&](int64_t row_begin, int64_t row_end, int32_t head_begin, int32_t head_end,
                         int worker) {
      context_.CheckCancelled();
      const int64_t row = span.first_row + row_begin;
      table_.attention(kv, shape, span.first_position + row_begin, row_end - row_begin,
                       Data(q) + row * q.cols, q.cols, head_begin, head_end,
                       Data(out) + row * out.cols, out.cols,
                       scratch + scratch_stride * static_cast<uint64_t>(worker));
    };
    // The kernel takes the heads of a key head together, and their rows in tiles: cut there, its
    // work goes on in the same order.
    const int32_t group = shape.q_heads / kv.kv_heads;
    const auto attend = [&](int64_t row_begin, int64_t row_end, int32_t head_begin,
                            int32_t head_end, int worker) {
      const int64_t row_work = 2 * (span.first_position + row_end) * kv.head_dim;  // of one head
      if ((row_end - row_begin) * (head_end - head_begin) * row_work <= CpuContext::kWorkPerLook) {
        run(row_begin, row_end, head_begin, head_end, worker);
        return;
      }
      for (int32_t head = head_begin; head < head_end;) {
        const int32_t end = std::min((head / group + 1) * group, head_end);
        const int64_t tile = std::max<int64_t>(kernels::kAttentionTileRows / (end - head), 1);
        const int64_t tile_work = tile * (end - head) * row_work;
        const int64_t rows = tile * std::max<int64_t>(CpuContext::kWorkPerLook / tile_work, 1);
        for (int64_t begin = row_begin; begin < row_end; begin += rows) {
          run(begin, std::min(begin + rows, row_end), head, end, worker);
        }
        head = end;
      }
    };
    const int64_t team = threads();
    const int64_t keys = span.first_position + span.rows;
    if (team == 1 ||
        keys * shape.q_heads * kv.head_dim * span.rows <= CpuContext::kSerialElements) {
      attend(0, span.rows, 0, shape.q_heads, 0);
      return;
    }
    if (span.rows < 8 * team) {
      context_.pool.ParallelFor(shape.q_heads, 1, [&](int64_t begin, int64_t end, int worker) {
        attend(0, span.rows, static_cast<int32_t>(begin), static_cast<int32_t>(end), worker);
      });
      return;
    }
    context_.pool.Run([&](int worker) {
      const int64_t begin = RowWithShareBelow(span, worker, team);
      const int64_t end = RowWithShareBelow(span, worker + 1, team);
      if (begin < end) {
        attend(begin, end, 0, shape.q_heads, worker);
      }
    });
  }

  // Row r such that rows [0, r) see part/team of all keys that the span's rows see together.
  static int64_t RowWithShareBelow(const RowSpan& span, int64_t part, int64_t team) {
    const auto before = static_cast<double>(span.first_position);
    const auto rows = static_cast<double>(span.rows);
    const double share =
        (before * rows + rows * rows / 2) * static_cast<double>(part) / static_cast<double>(team);
    const double row = std::sqrt(before * before + 2 * share) - before;
    return std::clamp(static_cast<int64_t>(std::lround(row)), int64_t{0}, span.rows);
  }

  CpuContext context_;
  const kernels::KernelTable& table_;
  RopeAngles angles_;
};

}  // namespace

std::unique_ptr<Backend> MakeCpuBackend(MemoryBudget& budget, const CpuOptions& options) {
  return std::make_unique<CpuBackend>(budget, options);
}

}  // namespace mach::backend
