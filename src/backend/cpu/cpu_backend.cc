#include "backend/cpu/cpu_backend.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "backend/cpu/attention.h"
#include "backend/cpu/cpu_context.h"
#include "backend/cpu/cpu_kv_store.h"
#include "backend/cpu/cpu_recurrent_store.h"
#include "backend/cpu/expert_mixture.h"
#include "backend/cpu/gated_delta.h"
#include "backend/cpu/linear_ops.h"
#include "backend/cpu/routing.h"
#include "base/check.h"
#include "base/portable_math.h"
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

  std::string name() const override { return context_.budget.dry() ? "dry" : "cpu"; }
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
    context_.ForRows(data.shape.Elements(), 1,
                     [&](int64_t i) { values[static_cast<size_t>(i)] = FloatElement(data, i); });
    return std::make_unique<CpuVector>(std::move(values));
  }

  std::shared_ptr<KvPool> NewKvPool(const KvShape& shape) override {
    return std::make_shared<CpuKvPool>(context_.budget, shape);
  }

  std::unique_ptr<RecurrentStore> NewRecurrentStore(const RecurrentShape& shape) override {
    return std::make_unique<CpuRecurrentStore>(context_, shape);
  }

  void ReserveActivations(uint64_t bytes) override { context_.arena.Reserve(bytes); }
  uint64_t TakePeakActivationBytes() override { return context_.arena.TakePeak(); }
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

  // In double: a float angle would be off by a thousandth at position 10,000.
  Tensor RopeAngles(const RopeSpec& spec, std::span<const RowSpan> spans) override {
    constexpr int64_t kElementCost = 16;  // of a sine, in elements of other operations
    std::vector<double> positions;        // of each row
    for (const RowSpan& span : spans) {
      MACH_DCHECK(span.first_row == static_cast<int64_t>(positions.size()));
      for (int64_t row = 0; row < span.rows; ++row) {
        positions.push_back(static_cast<double>(span.first_position + row));
      }
    }
    const size_t pairs = spec.inv_freq.size();
    const Tensor angles =
        context_.New(static_cast<int64_t>(positions.size()), 2 * static_cast<int64_t>(pairs));
    context_.ForRows(angles.rows, kElementCost * angles.cols, [&](int64_t row) {
      float* cos = Data(angles) + row * angles.cols;
      float* sin = cos + pairs;
      for (size_t pair = 0; pair < pairs; ++pair) {
        const double angle = positions[static_cast<size_t>(row)] * spec.inv_freq[pair];
        const SinCos at = PortableSinCos(angle);
        cos[pair] = static_cast<float>(at.cos * spec.amplitude);
        sin[pair] = static_cast<float>(at.sin * spec.amplitude);
      }
    });
    return angles;
  }

  void Rope(const Tensor& x, int32_t heads, const Tensor& angles) override {
    MACH_DCHECK(x.rows == angles.rows && angles.cols * heads <= x.cols);
    const int64_t pairs = angles.cols / 2;
    const int64_t head_dim = x.cols / heads;
    context_.ForRows(x, [&](int64_t row) {
      const float* cos = Data(angles) + row * angles.cols;
      for (int32_t head = 0; head < heads; ++head) {
        table_.rope_half(Data(x) + row * x.cols + head * head_dim, cos, cos + pairs, pairs);
      }
    });
  }

  Tensor Attention(const Tensor& q, const Tensor& k, const Tensor& v, int32_t layer,
                   const AttentionSpec& spec, std::span<const RowSpan> spans) override {
    return AttendStep(context_, q, k, v, layer, spec, spans);
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
    context_.ForRows(out, [&](int64_t row) {
      const int64_t from = rows[static_cast<size_t>(row)];
      MACH_DCHECK(from >= 0 && from < x.rows);
      std::copy_n(Data(x) + from * x.cols, x.cols, Data(out) + row * x.cols);
    });
    return out;
  }

  std::span<const float> Read(const Tensor& x) override {
    MACH_CHECK(!context_.budget.dry());
    return {Data(x), static_cast<size_t>(x.rows * x.cols)};
  }

 private:
  CpuContext context_;
  const kernels::KernelTable& table_;
};

}  // namespace

std::unique_ptr<Backend> MakeCpuBackend(MemoryBudget& budget, const CpuOptions& options) {
  return std::make_unique<CpuBackend>(budget, options);
}

}  // namespace mach::backend
