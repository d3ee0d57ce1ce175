#include "backend/dry_backend.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "backend/cpu/cpu_kv_store.h"
#include "backend/cpu/cpu_recurrent_store.h"
#include "backend/cpu/expert_mixture.h"
#include "backend/cpu/gated_delta.h"
#include "base/check.h"
#include "kernels/kernels.h"
#include "platform/cpu.h"
#include "tensor/packed_linear.h"

namespace mach::backend {
namespace {

uint64_t RoundUp(uint64_t value, uint64_t unit) {
  return (value + unit - 1) / unit * unit;
}

uint64_t Floats(int64_t count) {
  return static_cast<uint64_t>(count) * sizeof(float);
}

// Bytes booked on an owner for as long as the object lives.
class Booking {
 public:
  Booking(MemoryBudget& budget, const char* owner) : budget_(budget), owner_(owner) {}
  Booking(const Booking&) = delete;
  Booking& operator=(const Booking&) = delete;
  ~Booking() {
    if (bytes_ > 0) {
      budget_.Release(owner_, bytes_);
    }
  }
  void Set(uint64_t bytes) {
    if (bytes > bytes_) {
      budget_.Book(owner_, bytes - bytes_);
    } else if (bytes < bytes_) {
      budget_.Release(owner_, bytes_ - bytes);
    }
    bytes_ = bytes;
  }
  uint64_t bytes() const { return bytes_; }

 private:
  MemoryBudget& budget_;
  const char* owner_;
  uint64_t bytes_ = 0;
};

class DryLinear final : public LinearWeight {
 public:
  DryLinear(MemoryBudget& budget, const char* owner, const PackedSpec& spec, bool bias)
      : spec_(spec), booking_(budget, owner) {
    booking_.Set(Buffer::BookedBytes(spec.bytes()) +
                 (bias ? Buffer::BookedBytes(PackedLinear::BiasBytes(spec.out_features)) : 0));
  }
  int64_t out_features() const override { return spec_.out_features; }
  int64_t in_features() const override { return spec_.in_features; }
  uint64_t bytes() const override { return spec_.bytes(); }
  const PackedSpec& spec() const { return spec_; }

 private:
  PackedSpec spec_;
  Booking booking_;
};

class DryVector final : public VectorWeight {
 public:
  explicit DryVector(int64_t size) : size_(size) {}
  int64_t size() const override { return size_; }

 private:
  int64_t size_;
};

class DryKvStore final : public KvStore {
 public:
  DryKvStore(MemoryBudget& budget, const KvShape& shape)
      : budget_(budget),
        shape_(shape),
        block_bytes_(CpuKvPool::BlockBytes(shape)),
        own_(budget, "kv") {}

  const KvShape& shape() const override { return shape_; }
  void Reserve(int64_t first, int64_t end) override {
    shared_ = std::min(shared_, static_cast<uint64_t>(first / kernels::kKvBlockTokens));
    blocks_ = std::max(blocks_, Blocks(end));
    Book();
  }
  void Truncate(int64_t tokens) override {
    blocks_ = std::min(blocks_, Blocks(tokens));
    shared_ = std::min(shared_, blocks_);
    Book();
  }
  // Shares what the fork has in common with this store, which stays the one that books it.
  std::unique_ptr<KvStore> Fork(int64_t tokens) override {
    auto fork = std::make_unique<DryKvStore>(budget_, shape_);
    fork->shared_ = static_cast<uint64_t>(tokens / kernels::kKvBlockTokens);
    fork->blocks_ = Blocks(tokens);
    fork->Book();
    return fork;
  }
  uint64_t bytes() const override { return blocks_ * block_bytes_; }
  uint64_t unshared_bytes() const override { return (blocks_ - shared_) * block_bytes_; }

 private:
  static uint64_t Blocks(int64_t tokens) {
    return static_cast<uint64_t>((tokens + kernels::kKvBlockTokens - 1) / kernels::kKvBlockTokens);
  }
  void Book() { own_.Set((blocks_ - shared_) * Buffer::BookedBytes(block_bytes_)); }

  MemoryBudget& budget_;
  KvShape shape_;
  uint64_t block_bytes_;
  uint64_t blocks_ = 0;
  uint64_t shared_ = 0;  // the first of them, which another store books
  Booking own_;
};

class DryKvPool final : public KvPool {
 public:
  DryKvPool(MemoryBudget& budget, const KvShape& shape) : budget_(budget), shape_(shape) {}
  const KvShape& shape() const override { return shape_; }
  std::unique_ptr<KvStore> NewStore() override {
    return std::make_unique<DryKvStore>(budget_, shape_);
  }

 private:
  MemoryBudget& budget_;
  KvShape shape_;
};

class DrySnapshot final : public RecurrentSnapshot {
 public:
  DrySnapshot(MemoryBudget& budget, uint64_t bytes) : booking_(budget, "recurrent") {
    booking_.Set(Buffer::BookedBytes(bytes));
  }
  uint64_t bytes() const override { return booking_.bytes(); }

 private:
  Booking booking_;
};

class DryRecurrentStore final : public RecurrentStore {
 public:
  DryRecurrentStore(MemoryBudget& budget, const RecurrentShape& shape)
      : budget_(budget), shape_(shape), copies_(budget, "recurrent"), tape_(budget, "recurrent") {
    copies_.Set(2 * Buffer::BookedBytes(RecurrentCopyBytes(shape)));
  }
  const RecurrentShape& shape() const override { return shape_; }
  void Begin(int64_t tokens, bool record) override {
    if (record) {
      tape_.Set(std::max(tape_.bytes(), Buffer::BookedBytes(RecurrentTapeBytes(shape_, tokens))));
    }
  }
  void Commit() override {}
  void Rollback(int64_t /*keep*/) override {}
  bool CanRollback(int64_t /*keep*/) const override { return true; }
  void Reset() override {}
  std::unique_ptr<RecurrentSnapshot> Snapshot() override {
    return std::make_unique<DrySnapshot>(budget_, RecurrentCopyBytes(shape_));
  }
  void Restore(const RecurrentSnapshot& /*snapshot*/) override {}
  std::unique_ptr<RecurrentStore> Fork() override {
    return std::make_unique<DryRecurrentStore>(budget_, shape_);
  }
  uint64_t bytes() const override { return copies_.bytes() + tape_.bytes(); }

 private:
  MemoryBudget& budget_;
  RecurrentShape shape_;
  Booking copies_;
  Booking tape_;
};

const PackedSpec& Spec(const LinearWeight& weight) {
  return static_cast<const DryLinear&>(weight).spec();
}

// Each operation makes the tensors and takes the scratch that its namesake in cpu_backend.cc does,
// in the same order.
class Dry final : public DryBackend {
 public:
  Dry(MemoryBudget& budget, const CpuOptions& options)
      : budget_(budget),
        threads_(options.threads > 0 ? options.threads : PhysicalCores()),
        isa_(options.isa) {}

  std::string name() const override { return "dry"; }
  std::string isa() const override { return std::string(IsaName(isa_)); }
  int threads() const override { return threads_; }
  bool groups_expert_rows() const override { return true; }
  uint64_t TakePeakActivationBytes() override { return std::exchange(peak_, position_); }

  std::unique_ptr<LinearWeight> LoadLinear(const LinearData& data, const char* owner) override {
    MACH_CHECK(data.affine.has_value() != data.dense.has_value());
    const PackedSpec spec =
        data.affine ? CheckAffine(*data.affine, owner) : CheckFloat(*data.dense, owner);
    return std::make_unique<DryLinear>(budget_, owner, spec,
                                       data.bias && !data.bias->bytes.empty());
  }
  std::unique_ptr<VectorWeight> LoadVector(const TensorView& data) override {
    return std::make_unique<DryVector>(data.shape.Elements());
  }
  std::shared_ptr<KvPool> NewKvPool(const KvShape& shape) override {
    return std::make_shared<DryKvPool>(budget_, shape);
  }

  void ReserveActivations(uint64_t bytes) override {
    budget_.Book("activations", Buffer::BookedBytes(bytes));
  }
  uint64_t Mark() override { return position_; }
  void Release(uint64_t mark) override { position_ = mark; }
  const std::atomic<bool>* WatchCancel(const std::atomic<bool>* /*cancel*/) override {
    return nullptr;
  }

  Tensor Embed(const LinearWeight& table, std::span<const int32_t> ids) override {
    return New(static_cast<int64_t>(ids.size()), table.in_features());
  }
  Tensor RmsNorm(const Tensor& x, const VectorWeight& /*gain*/, float /*eps*/) override {
    return New(x.rows, x.cols);
  }
  void Linear(const Tensor& x, std::span<const LinearWeight* const> weights,
              std::span<Tensor> out) override {
    for (size_t i = 0; i < weights.size(); ++i) {
      out[i] = New(x.rows, weights[i]->out_features());
    }
    const StepScope scratch(*this);
    std::vector<int> group_sizes;
    for (const LinearWeight* weight : weights) {
      const PackedSpec& spec = Spec(*weight);
      if (spec.is_affine && std::find(group_sizes.begin(), group_sizes.end(),
                                      spec.scheme.group_size) == group_sizes.end()) {
        group_sizes.push_back(spec.scheme.group_size);
        Quantize(x.rows, x.cols, spec.scheme.group_size);
      }
    }
    if (!group_sizes.empty()) {
      TakeForEachThread(kernels::LinearScratchBytes(isa_, x.rows, x.cols));
    }
  }
  Tensor RopeAngles(const RopeSpec& spec, std::span<const RowSpan> spans) override {
    int64_t rows = 0;
    for (const RowSpan& span : spans) {
      rows += span.rows;
    }
    return New(rows, 2 * static_cast<int64_t>(spec.inv_freq.size()));
  }
  void Rope(const Tensor& /*x*/, int32_t /*heads*/, const Tensor& /*angles*/) override {}
  Tensor Attention(const Tensor& q, const Tensor& /*k*/, const Tensor& /*v*/, int32_t /*layer*/,
                   const AttentionSpec& spec, std::span<const RowSpan> /*spans*/) override {
    const Tensor out = New(q.rows, q.cols);
    const StepScope scratch(*this);
    TakeForEachThread(kernels::AttentionScratchBytes(
        {.q_heads = spec.q_heads, .scale = spec.scale, .window = spec.window}, spec.head_dim));
    return out;
  }
  std::unique_ptr<RecurrentStore> NewRecurrentStore(const RecurrentShape& shape) override {
    return std::make_unique<DryRecurrentStore>(budget_, shape);
  }
  void SigmoidGateInPlace(const Tensor& /*x*/, const Tensor& /*gate*/) override {}
  void SplitHeads(const Tensor& x, int32_t /*heads*/, Tensor& a, Tensor& b) override {
    a = New(x.rows, x.cols / 2);
    b = New(x.rows, x.cols / 2);
  }
  Tensor GatedDelta(const GatedDeltaInput& input, const GatedDeltaWeights& /*weights*/,
                    const GatedDeltaSpec& /*spec*/, int32_t /*layer*/,
                    std::span<const RowSpan> spans) override {
    const RecurrentShape& shape = spans.front().recurrent->shape();
    const Tensor out = New(input.z.rows, input.z.cols);
    const StepScope scratch(*this);
    Take(Floats(out.rows * shape.v_heads));
    Take(Floats(out.rows * shape.v_heads));
    Take(Floats(GatedDeltaScratchFloats(shape) * threads_));
    return out;
  }
  // All rows use the same experts: the most that one expert can get to do.
  Routing Route(const Tensor& logits, const RouterSpec& spec) override {
    const StepScope scratch(*this);
    New(logits.rows, logits.cols);
    Routing routing{.top_k = spec.top_k, .ids = {}, .weights = {}};
    for (int64_t i = 0; i < logits.rows * spec.top_k; ++i) {
      routing.ids.push_back(static_cast<int32_t>(i % spec.top_k));
    }
    routing.weights.resize(routing.ids.size());
    return routing;
  }
  // Experts come in ascending order, as those of long chunks do.
  Tensor ExpertMixture(const Tensor& x, const Routing& routing, const ExpertLayout& layout,
                       ExpertLease& /*lease*/) override {
    const int64_t intermediate = layout.down.spec.in_features;
    const Tensor out = New(x.rows, layout.down.spec.out_features);
    const StepScope scratch(*this);
    const PackedSpec& gate = layout.gate.spec;
    const PackedSpec& up = layout.up.spec;
    const bool same_input = gate.is_affine == up.is_affine &&
                            (!gate.is_affine || gate.scheme.group_size == up.scheme.group_size);
    const auto input = [&](const PackedSpec& spec, int64_t rows) {
      if (spec.is_affine) {
        Quantize(rows, x.cols, spec.scheme.group_size);
      } else {
        New(rows, x.cols);
      }
    };
    for (const PackedSpec* spec : {&gate, &up}) {
      if (spec->is_affine && (spec == &gate || !same_input)) {
        Quantize(x.rows, x.cols, spec->scheme.group_size);
      }
    }
    const int64_t most_uses = x.rows;
    const int64_t rows = std::min(kBatchRowsPerThread * threads_ - 1 + most_uses,
                                  static_cast<int64_t>(routing.ids.size()));
    New(rows, intermediate);
    New(rows, intermediate);
    if (layout.down.spec.is_affine) {
      Quantize(rows, intermediate, layout.down.spec.scheme.group_size);
    }
    if (x.rows > 1) {
      input(gate, rows);
      if (!same_input) {
        input(up, rows);
      }
    }
    New(most_uses, layout.down.spec.out_features);
    TakeForEachThread(kernels::LinearScratchBytes(isa_, most_uses, std::max(x.cols, intermediate)));
    return out;
  }
  void AddGatedInPlace(const Tensor& /*x*/, const Tensor& /*y*/, const Tensor& /*gate*/) override {}
  Tensor SwiGlu(const Tensor& gate, const Tensor& /*up*/) override {
    return New(gate.rows, gate.cols);
  }
  void AddInPlace(const Tensor& /*x*/, const Tensor& /*y*/) override {}
  Tensor TakeRows(const Tensor& x, std::span<const int64_t> rows) override {
    return New(static_cast<int64_t>(rows.size()), x.cols);
  }
  std::span<const float> Read(const Tensor& x) override {
    zeros_.assign(static_cast<size_t>(x.rows * x.cols), 0.0F);
    return zeros_;
  }

 private:
  void Take(uint64_t bytes) {
    position_ += RoundUp(bytes, 64);
    peak_ = std::max(peak_, position_);
  }
  void TakeForEachThread(uint64_t bytes) {
    Take(RoundUp(bytes, 64) * static_cast<uint64_t>(threads_));
  }
  Tensor New(int64_t rows, int64_t cols) {
    Take(Floats(rows * cols));
    return {.rows = rows, .cols = cols, .handle = 0};
  }
  void Quantize(int64_t rows, int64_t cols, int group_size) {
    Take(static_cast<uint64_t>(rows * cols));
    Take(Floats(rows * (cols / group_size)));
    Take(Floats(rows * (cols / group_size)));
  }

  MemoryBudget& budget_;
  const int threads_;
  const Isa isa_;
  uint64_t position_ = 0;
  uint64_t peak_ = 0;
  std::vector<float> zeros_;
};

class DryLease final : public ExpertLease {
 public:
  std::span<const ReadyExpert> Next(const std::atomic<bool>* /*cancel*/) override { return {}; }
};

class DryExperts final : public ExpertSource {
 public:
  DryExperts(const ExpertLayout& layout, int32_t layers, int32_t experts)
      : layout_(layout), layers_(layers), experts_(experts) {}
  const ExpertLayout& layout() const override { return layout_; }
  int32_t layers() const override { return layers_; }
  int32_t experts() const override { return experts_; }
  std::unique_ptr<ExpertLease> Acquire(int32_t /*layer*/, std::span<const WantedExpert> /*wanted*/,
                                       int64_t /*tokens*/, ExpertUse /*use*/) override {
    return std::make_unique<DryLease>();
  }
  void Prefetch(int32_t /*layer*/, std::span<const int32_t> /*ids*/) override {}
  bool prefetches() const override { return false; }

 private:
  ExpertLayout layout_;
  int32_t layers_;
  int32_t experts_;
};

}  // namespace

std::unique_ptr<DryBackend> MakeDryBackend(MemoryBudget& budget, const CpuOptions& options) {
  return std::make_unique<Dry>(budget, options);
}

std::unique_ptr<ExpertSource> MakeDryExperts(const ExpertLayout& layout, int32_t layers,
                                             int32_t experts) {
  return std::make_unique<DryExperts>(layout, layers, experts);
}

}  // namespace mach::backend
