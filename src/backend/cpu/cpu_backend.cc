#include "backend/cpu/cpu_backend.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "backend/cpu/arena.h"
#include "backend/cpu/cpu_kv_store.h"
#include "base/check.h"
#include "base/error.h"
#include "kernels/kernels.h"
#include "platform/thread_pool.h"
#include "tensor/packed_linear.h"
#include "tensor/quant.h"

namespace mach::backend {
namespace {

using kernels::KernelTable;
using kernels::QuantizedRows;

// Work below this many elements is done by the calling thread: a parallel loop costs about as much.
constexpr int64_t kSerialElements = 16384;

class CpuLinear final : public LinearWeight {
 public:
  explicit CpuLinear(PackedLinear packed) : packed_(std::move(packed)) {}
  int64_t out_features() const override { return packed_.out_features(); }
  int64_t in_features() const override { return packed_.in_features(); }
  uint64_t bytes() const override { return packed_.bytes(); }
  const PackedView& packed() const { return packed_.view(); }

 private:
  PackedLinear packed_;
};

class CpuVector final : public VectorWeight {
 public:
  explicit CpuVector(std::vector<float> values) : values_(std::move(values)) {}
  int64_t size() const override { return static_cast<int64_t>(values_.size()); }
  const float* data() const { return values_.data(); }

 private:
  std::vector<float> values_;
};

const PackedView& Packed(const LinearWeight& weight) {
  return static_cast<const CpuLinear&>(weight).packed();
}

float* Data(const Tensor& x) {
  return reinterpret_cast<float*>(x.handle);  // NOLINT(performance-no-int-to-ptr): made from one
}

class CpuBackend final : public Backend {
 public:
  CpuBackend(MemoryBudget& budget, const CpuOptions& options)
      : budget_(budget),
        table_(kernels::Kernels(options.isa)),
        pool_(options.threads > 0 ? options.threads : PhysicalCores()),
        arena_(budget),
        isa_(options.isa) {}

  std::string name() const override { return "cpu"; }
  std::string isa() const override { return std::string(IsaName(isa_)); }
  int threads() const override { return pool_.threads(); }

  std::unique_ptr<LinearWeight> LoadLinear(const LinearData& data, const char* owner) override {
    MACH_CHECK(data.affine.has_value() != data.dense.has_value());
    const TensorView* bias = data.bias ? &*data.bias : nullptr;
    return std::make_unique<CpuLinear>(
        data.affine ? PackedLinear::FromAffine(budget_, owner, *data.affine, bias, pool_)
                    : PackedLinear::FromFloat(budget_, owner, *data.dense, bias, pool_));
  }

  std::unique_ptr<VectorWeight> LoadVector(const TensorView& data) override {
    std::vector<float> values(static_cast<size_t>(data.shape.Elements()));
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = FloatElement(data, static_cast<int64_t>(i));
    }
    return std::make_unique<CpuVector>(std::move(values));
  }

  std::unique_ptr<KvStore> NewKvStore(const KvShape& shape) override {
    if (!kv_pool_) {
      kv_pool_ = std::make_shared<KvBlockPool>(budget_, shape);
    }
    return std::make_unique<CpuKvStore>(kv_pool_);
  }

  // Mixture-of-Experts operations: under construction on this branch.
  std::unique_ptr<RecurrentStore> NewRecurrentStore(const RecurrentShape&) override { Later(); }
  void SigmoidGateInPlace(const Tensor&, const Tensor&) override { Later(); }
  void SplitHeads(const Tensor&, int32_t, Tensor&, Tensor&) override { Later(); }
  Tensor GatedDelta(const GatedDeltaInput&, const GatedDeltaWeights&, const GatedDeltaSpec&,
                    int32_t, std::span<const RowSpan>) override {
    Later();
  }
  Routing Route(const Tensor&, const RouterSpec&) override { Later(); }
  Tensor ExpertMixture(const Tensor&, const Routing&, const ExpertLayout&, ExpertLease&) override {
    Later();
  }
  void AddGatedInPlace(const Tensor&, const Tensor&, const Tensor&) override { Later(); }

  void ReserveActivations(uint64_t bytes) override { arena_.Reserve(bytes); }
  uint64_t Mark() override { return arena_.Mark(); }
  void Release(uint64_t mark) override { arena_.Release(mark); }

  Tensor Embed(const LinearWeight& table, std::span<const int32_t> ids) override {
    const PackedView& packed = Packed(table);
    const Tensor out = New(static_cast<int64_t>(ids.size()), packed.spec.in_features);
    ForRows(out, [&](int64_t row) {
      packed.UnpackRow(ids[static_cast<size_t>(row)],
                       {Data(out) + row * out.cols, static_cast<size_t>(out.cols)});
    });
    return out;
  }

  Tensor RmsNorm(const Tensor& x, const VectorWeight& gain, float eps) override {
    const auto& weight = static_cast<const CpuVector&>(gain);
    MACH_DCHECK(x.cols % weight.size() == 0);
    const Tensor out = New(x.rows, x.cols);
    ForRows(x, [&](int64_t row) {
      for (int64_t at = row * x.cols; at < (row + 1) * x.cols; at += weight.size()) {
        table_.rms_norm(Data(x) + at, weight.data(), eps, weight.size(), Data(out) + at);
      }
    });
    return out;
  }

  void Linear(const Tensor& x, std::span<const LinearWeight* const> weights,
              std::span<Tensor> out) override {
    MACH_DCHECK(weights.size() == out.size());
    for (size_t i = 0; i < weights.size(); ++i) {
      MACH_DCHECK(weights[i]->in_features() == x.cols);
      out[i] = New(x.rows, weights[i]->out_features());
    }
    const uint64_t mark = arena_.Mark();
    // One quantisation of x for each group size that occurs.
    std::vector<QuantizedRows> quantized;
    uint64_t scratch_bytes = 0;
    for (const LinearWeight* weight : weights) {
      const PackedView& packed = Packed(*weight);
      if (packed.spec.is_affine &&
          FindQuantized(quantized, packed.spec.scheme.group_size) == nullptr) {
        quantized.push_back(Quantize(x, packed.spec.scheme.group_size));
        scratch_bytes = kernels::LinearScratchBytes(isa_, x.rows, x.cols);
      }
    }
    std::byte* scratch = nullptr;
    const uint64_t scratch_stride = (scratch_bytes + 63) / 64 * 64;
    if (scratch_stride > 0) {
      scratch = arena_.Allocate<std::byte>(static_cast<int64_t>(scratch_stride) * threads());
    }
    // The strips of all weights are one list of work, cut into equal bytes for the threads.
    uint64_t total_bytes = 0;
    for (const LinearWeight* weight : weights) {
      total_bytes += Packed(*weight).spec.bytes();
    }
    pool_.Run([&](int worker) {
      const auto team = static_cast<uint64_t>(threads());
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
        if (packed.spec.is_affine) {
          table_.linear_affine(packed, *FindQuantized(quantized, packed.spec.scheme.group_size),
                               first, last, Data(out[i]), out[i].cols,
                               scratch + scratch_stride * static_cast<uint64_t>(worker));
        } else {
          table_.linear_float(packed, Data(x), x.cols, x.rows, first, last, Data(out[i]),
                              out[i].cols);
        }
      }
    });
    arena_.Release(mark);
  }

  void Rope(const Tensor& x, int32_t heads, const RopeSpec& spec,
            std::span<const RowSpan> spans) override {
    const auto pairs = static_cast<int64_t>(spec.inv_freq.size());
    const int64_t head_dim = x.cols / heads;
    const RopeAngles& angles = Angles(spec, spans, x.rows);
    ForRows(x, [&](int64_t row) {
      const float* cos = angles.cos.data() + row * pairs;
      const float* sin = angles.sin.data() + row * pairs;
      for (int32_t head = 0; head < heads; ++head) {
        table_.rope_half(Data(x) + row * x.cols + head * head_dim, cos, sin, pairs);
      }
    });
  }

  Tensor Attention(const Tensor& q, const Tensor& k, const Tensor& v, int32_t layer,
                   const AttentionSpec& spec, std::span<const RowSpan> spans) override {
    const Tensor out = New(q.rows, q.cols);
    const uint64_t mark = arena_.Mark();
    const kernels::AttentionShape shape{
        .q_heads = spec.q_heads, .scale = spec.scale, .window = spec.window};
    const uint64_t scratch_stride =
        (kernels::AttentionScratchBytes(shape, spec.head_dim) + 63) / 64 * 64;
    auto* scratch = arena_.Allocate<std::byte>(static_cast<int64_t>(scratch_stride) * threads());
    for (const RowSpan& span : spans) {
      const kernels::KvLayerView kv = static_cast<CpuKvStore*>(span.kv)->Layer(layer);
      table_.store_kv(kv, span.first_position, span.rows, Data(k) + span.first_row * k.cols, k.cols,
                      Data(v) + span.first_row * v.cols, v.cols);
      AttendSpan(kv, shape, span, q, out, scratch, scratch_stride);
    }
    arena_.Release(mark);
    return out;
  }

  Tensor SwiGlu(const Tensor& gate, const Tensor& up) override {
    MACH_DCHECK(gate.rows == up.rows && gate.cols == up.cols);
    const Tensor out = New(gate.rows, gate.cols);
    ForRows(gate, [&](int64_t row) {
      const int64_t at = row * gate.cols;
      table_.swiglu(Data(gate) + at, Data(up) + at, gate.cols, Data(out) + at);
    });
    return out;
  }

  void AddInPlace(const Tensor& x, const Tensor& y) override {
    MACH_DCHECK(x.rows == y.rows && x.cols == y.cols);
    ForRows(x, [&](int64_t row) {
      table_.add(Data(x) + row * x.cols, Data(y) + row * x.cols, x.cols);
    });
  }

  Tensor TakeRows(const Tensor& x, std::span<const int64_t> rows) override {
    const Tensor out = New(static_cast<int64_t>(rows.size()), x.cols);
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
  [[noreturn]] static void Later() {
    throw Error(ErrorCode::kUnsupported, "this operation is not implemented yet");
  }

  struct RopeAngles {
    const RopeSpec* spec = nullptr;
    std::vector<int64_t> positions;
    std::vector<float> cos;  // [rows, pairs]
    std::vector<float> sin;
  };

  Tensor New(int64_t rows, int64_t cols) {
    return {rows, cols, reinterpret_cast<uintptr_t>(arena_.Allocate<float>(rows * cols))};
  }

  template <typename Body>
  void ForRows(const Tensor& x, const Body& body) {
    if (x.rows * x.cols <= kSerialElements) {
      for (int64_t row = 0; row < x.rows; ++row) {
        body(row);
      }
      return;
    }
    pool_.ParallelFor(x.rows, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t row = begin; row < end; ++row) {
        body(row);
      }
    });
  }

  static const QuantizedRows* FindQuantized(const std::vector<QuantizedRows>& all, int group_size) {
    for (const QuantizedRows& rows : all) {
      if (rows.group_size == group_size) {
        return &rows;
      }
    }
    return nullptr;
  }

  static int64_t FirstStripFrom(const PackedView& packed, uint64_t weight_at, uint64_t position) {
    if (position <= weight_at) {
      return 0;
    }
    const uint64_t strip = (position - weight_at + packed.strip_bytes - 1) / packed.strip_bytes;
    return std::min(packed.spec.strips(), static_cast<int64_t>(strip));
  }

  QuantizedRows Quantize(const Tensor& x, int group_size) {
    const int64_t groups = x.cols / group_size;
    QuantizedRows rows{.rows = x.rows,
                       .cols = x.cols,
                       .group_size = group_size,
                       .codes = arena_.Allocate<int8_t>(x.rows * x.cols),
                       .scales = arena_.Allocate<float>(x.rows * groups),
                       .scaled_sums = arena_.Allocate<float>(x.rows * groups)};
    if (x.rows * x.cols <= kSerialElements) {
      table_.quantize_rows(Data(x), x.cols, 0, x.rows, rows);
    } else {
      pool_.ParallelFor(x.rows, 1, [&](int64_t begin, int64_t end, int) {
        table_.quantize_rows(Data(x), x.cols, begin, end, rows);
      });
    }
    return rows;
  }

  // All layers of a step rotate by the same angles: computed once, in double.
  const RopeAngles& Angles(const RopeSpec& spec, std::span<const RowSpan> spans, int64_t rows) {
    std::vector<int64_t> positions(static_cast<size_t>(rows), 0);
    for (const RowSpan& span : spans) {
      for (int64_t row = 0; row < span.rows; ++row) {
        positions[static_cast<size_t>(span.first_row + row)] = span.first_position + row;
      }
    }
    if (angles_.spec == &spec && angles_.positions == positions) {
      return angles_;
    }
    const size_t pairs = spec.inv_freq.size();
    angles_.spec = &spec;
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
    const auto attend = [&](int64_t row_begin, int64_t row_end, int32_t head_begin,
                            int32_t head_end, int worker) {
      const int64_t row = span.first_row + row_begin;
      table_.attention(kv, shape, span.first_position + row_begin, row_end - row_begin,
                       Data(q) + row * q.cols, q.cols, head_begin, head_end,
                       Data(out) + row * out.cols, out.cols,
                       scratch + scratch_stride * static_cast<uint64_t>(worker));
    };
    const int64_t team = threads();
    const int64_t keys = span.first_position + span.rows;
    if (team == 1 || keys * shape.q_heads * kv.head_dim * span.rows <= kSerialElements) {
      attend(0, span.rows, 0, shape.q_heads, 0);
      return;
    }
    if (span.rows < 8 * team) {
      pool_.ParallelFor(shape.q_heads, 1, [&](int64_t begin, int64_t end, int worker) {
        attend(0, span.rows, static_cast<int32_t>(begin), static_cast<int32_t>(end), worker);
      });
      return;
    }
    pool_.Run([&](int worker) {
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

  MemoryBudget& budget_;
  const KernelTable& table_;
  ThreadPool pool_;
  Arena arena_;
  Isa isa_;
  std::shared_ptr<KvBlockPool> kv_pool_;
  RopeAngles angles_;
};

}  // namespace

std::unique_ptr<Backend> MakeCpuBackend(MemoryBudget& budget, const CpuOptions& options) {
  return std::make_unique<CpuBackend>(budget, options);
}

}  // namespace mach::backend
