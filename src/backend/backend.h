// The operations that a model is written in.
//
// A model is written once, in terms of this class; the CPU backend executes each call at once into
// an arena, a lazy backend may build a graph and run it at Read. All calls of a step come from the
// one thread that owns inference. Every operation is defined row by row: the result of a row does
// not depend on which other rows are in the step, so batching, chunking and verification of drafts
// give the bits of single steps (docs/ARCHITECTURE.md, "One answer").
//
// Shapes are [rows, cols]; a row is a token. Heads lie side by side in a row.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backend/experts.h"
#include "backend/kv_store.h"
#include "backend/recurrent_store.h"
#include "backend/tensor.h"
#include "backend/weights.h"

namespace mach::backend {

// Rotary position embedding of one model: angle of pair i at position p is p * inv_freq[i].
// cos and sin are multiplied by `amplitude` (1 but for YaRN).
struct RopeSpec {
  std::vector<double> inv_freq;  // one for each rotated pair, half-split: (i, i + pairs)
  double amplitude = 1.0;

  friend bool operator==(const RopeSpec&, const RopeSpec&) = default;
};

// Consecutive rows of a step that belong to one sequence.
struct RowSpan {
  KvStore* kv = nullptr;
  RecurrentStore* recurrent = nullptr;  // null for models without recurrent layers
  int64_t first_row = 0;
  int64_t rows = 0;
  int64_t first_position = 0;  // absolute position of first_row
};

struct AttentionSpec {
  int32_t q_heads = 0;  // those of keys and values are in the shape of the sequence's KvStore
  int32_t head_dim = 0;
  float scale = 0;
  int32_t window = 0;  // 0 = all positions; else the last so many, for families that slide
};

// Gated DeltaNet (arXiv 2412.06464), as in qwen3_5_moe. Sizes are those of the sequence's
// RecurrentShape.
struct GatedDeltaSpec {
  float norm_eps = 0;  // of the gated output norm
};

struct GatedDeltaWeights {
  const VectorWeight* conv = nullptr;     // [taps, channels], the last tap is the current row
  const VectorWeight* a_log = nullptr;    // [v_heads]
  const VectorWeight* dt_bias = nullptr;  // [v_heads]
  const VectorWeight* norm = nullptr;     // [v_dim], a plain gain
};

// Inputs of one gated-delta layer, all [rows, ...].
struct GatedDeltaInput {
  Tensor qkv;  // [rows, channels]: q heads, k heads, v heads
  Tensor z;    // [rows, v_heads * v_dim]
  Tensor a;    // [rows, v_heads]
  Tensor b;    // [rows, v_heads]
};

struct RouterSpec {
  int32_t top_k = 0;
  bool normalise = true;  // the weights of a token sum to one
};

// Which experts each row uses. Ranks of a row are in ascending order of expert: the mixture adds
// them in that order, so that a chunk can be computed expert by expert.
struct Routing {
  int32_t top_k = 0;
  std::vector<int32_t> ids;    // [rows, top_k]
  std::vector<float> weights;  // [rows, top_k]
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string name() const = 0;  // "cpu"
  virtual std::string isa() const = 0;   // "avx512-vnni"
  virtual int threads() const = 0;
  // Whether ExpertMixture reads the weights of an expert once for all rows of a step that use it.
  virtual bool groups_expert_rows() const = 0;

  // Loading. `owner` is the account that the memory is booked on.
  virtual std::unique_ptr<LinearWeight> LoadLinear(const LinearData& data, const char* owner) = 0;
  virtual std::unique_ptr<VectorWeight> LoadVector(const TensorView& data) = 0;
  // Each model has a pool of its own.
  virtual std::shared_ptr<KvPool> NewKvPool(const KvShape& shape) = 0;
  virtual std::unique_ptr<RecurrentStore> NewRecurrentStore(const RecurrentShape& shape) = 0;

  // Memory for steps that need at most `bytes` of activations at a time, in one piece. Without it,
  // memory grows as steps need it and may end up larger. Before the first step.
  virtual void ReserveActivations(uint64_t bytes) = 0;
  // The most bytes of activations that were alive at a time since the last call. What a step leaves
  // here on a dry backend (dry_backend.h) is what to reserve for it.
  virtual uint64_t TakePeakActivationBytes() = 0;

  // Tensors made between Mark and Release(mark) are invalid after Release. Use StepScope.
  virtual uint64_t Mark() = 0;
  virtual void Release(uint64_t mark) = 0;

  // From now on, once this flag (null = none) turns true, operations stop between two blocks of
  // their work and throw kCancelled. Returns the flag watched before. Use CancelScope.
  virtual const std::atomic<bool>* WatchCancel(const std::atomic<bool>* cancel) = 0;

  // Row i is row ids[i] of `table` (a linear weight [vocab, hidden], often shared with the output).
  virtual Tensor Embed(const LinearWeight& table, std::span<const int32_t> ids) = 0;

  // RMS norm of each head of each row: cols is a multiple of gain.size(). With one head this is the
  // ordinary norm of a row.
  virtual Tensor RmsNorm(const Tensor& x, const VectorWeight& gain, float eps) = 0;

  // out[i] = weights[i] applied to x; one pass over x for all of them.
  virtual void Linear(const Tensor& x, std::span<const LinearWeight* const> weights,
                      std::span<Tensor> out) = 0;

  // The rotations of a step's rows, for Rope: made once for all layers that rotate alike.
  // [rows, 2 * pairs], the cosines of a row before its sines.
  virtual Tensor RopeAngles(const RopeSpec& spec, std::span<const RowSpan> spans) = 0;
  // Rotates the first 2 * pairs elements of each of `heads` heads in place.
  virtual void Rope(const Tensor& x, int32_t heads, const Tensor& angles) = 0;

  // Stores k and v at their positions, then attends causally. Returns [rows, q_heads * head_dim].
  virtual Tensor Attention(const Tensor& q, const Tensor& k, const Tensor& v, int32_t layer,
                           const AttentionSpec& spec, std::span<const RowSpan> spans) = 0;

  // x *= sigmoid(gate), element by element: the output gate of gated attention. `gate` has the
  // shape of x.
  virtual void SigmoidGateInPlace(const Tensor& x, const Tensor& gate) = 0;

  // Splits rows of `heads` blocks [a | b], each head_dim wide, into all a and all b.
  virtual void SplitHeads(const Tensor& x, int32_t heads, Tensor& a, Tensor& b) = 0;

  // Causal convolution, normalisation of q and k, the gated delta rule token by token, and the
  // gated norm of its output. Reads and advances the recurrent state of gated-delta layer `layer`.
  // Returns [rows, v_heads * v_dim].
  virtual Tensor GatedDelta(const GatedDeltaInput& input, const GatedDeltaWeights& weights,
                            const GatedDeltaSpec& spec, int32_t layer,
                            std::span<const RowSpan> spans) = 0;

  // Softmax over `logits` [rows, experts] in fp32, the top_k largest (of equals the lower index).
  virtual Routing Route(const Tensor& logits, const RouterSpec& spec) = 0;

  // Row r: the sum over its ranks, ascending, of weight * expert(x[r]); out = fma(weight, y, out)
  // starting from zero. `lease` covers the experts of `routing`.
  virtual Tensor ExpertMixture(const Tensor& x, const Routing& routing, const ExpertLayout& layout,
                               ExpertLease& lease) = 0;

  // x[r] += sigmoid(gate[r][0]) * y[r]: a shared expert with its gate. `gate` is [rows, 1].
  virtual void AddGatedInPlace(const Tensor& x, const Tensor& y, const Tensor& gate) = 0;

  virtual Tensor SwiGlu(const Tensor& gate, const Tensor& up) = 0;  // silu(gate) * up
  virtual void AddInPlace(const Tensor& x, const Tensor& y) = 0;    // x += y
  virtual Tensor TakeRows(const Tensor& x, std::span<const int64_t> rows) = 0;

  // The values of x, row-major; valid until the scope ends.
  virtual std::span<const float> Read(const Tensor& x) = 0;
};

// Frees what a piece of a step made.
class StepScope {
 public:
  explicit StepScope(Backend& backend) : backend_(backend), mark_(backend.Mark()) {}
  StepScope(const StepScope&) = delete;
  StepScope& operator=(const StepScope&) = delete;
  ~StepScope() { backend_.Release(mark_); }

 private:
  Backend& backend_;
  uint64_t mark_;
};

// Lets `cancel` (null = nothing), and nothing else, stop the operations until the scope ends; then
// what was watched before is watched again.
class CancelScope {
 public:
  CancelScope(Backend& backend, const std::atomic<bool>* cancel)
      : backend_(backend), before_(backend.WatchCancel(cancel)) {}
  CancelScope(const CancelScope&) = delete;
  CancelScope& operator=(const CancelScope&) = delete;
  ~CancelScope() { backend_.WatchCancel(before_); }

 private:
  Backend& backend_;
  const std::atomic<bool>* before_;
};

}  // namespace mach::backend
