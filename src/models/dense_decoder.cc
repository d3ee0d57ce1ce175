#include "models/dense_decoder.h"

#include <array>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/error.h"
#include "models/rope.h"

namespace mach::models {
namespace {

using backend::LinearWeight;
using backend::RowSpan;
using backend::StepScope;
using backend::Tensor;
using backend::VectorWeight;

struct DenseLayer {
  std::unique_ptr<VectorWeight> attention_norm;
  std::unique_ptr<LinearWeight> q, k, v, o;
  std::unique_ptr<VectorWeight> q_norm, k_norm;  // null without qk_norm
  std::unique_ptr<VectorWeight> mlp_norm;
  std::unique_ptr<LinearWeight> gate, up, down;
};

class DenseDecoder final : public Model {
 public:
  DenseDecoder(const LoadContext& context, DenseConfig config)
      : config_(std::move(config)), backend_(context.backend), kv_dtype_(context.kv_dtype) {
    Bind(context);
  }

  const ModelShape& shape() const override { return config_.shape; }
  backend::Backend& backend() override { return *backend_; }
  uint64_t ActiveWeightBytes() const override { return active_weight_bytes_; }

  std::unique_ptr<state::SequenceState> NewSequence() override {
    return std::make_unique<state::SequenceState>(
        backend_->NewKvStore({.layers = config_.shape.layers,
                              .kv_heads = config_.kv_heads,
                              .head_dim = config_.head_dim,
                              .dtype = kv_dtype_}));
  }

  Tensor Forward(std::span<const SequenceRows> batch, const std::atomic<bool>* cancel) override {
    std::vector<int32_t> ids;
    std::vector<RowSpan> spans;
    std::vector<int64_t> logit_rows;
    for (const SequenceRows& rows : batch) {
      const auto count = static_cast<int64_t>(rows.tokens.size());
      MACH_DCHECK(count > 0 && rows.logit_rows <= count);
      rows.state->Prepare(count);
      const auto first_row = static_cast<int64_t>(ids.size());
      spans.push_back({.kv = &rows.state->kv(),
                       .first_row = first_row,
                       .rows = count,
                       .first_position = rows.state->length()});
      ids.insert(ids.end(), rows.tokens.begin(), rows.tokens.end());
      for (int64_t row = count - rows.logit_rows; row < count; ++row) {
        logit_rows.push_back(first_row + row);
      }
    }
    const Tensor x = backend_->Embed(*embedding_, ids);
    for (int32_t layer = 0; layer < config_.shape.layers; ++layer) {
      if (cancel != nullptr && cancel->load(std::memory_order_relaxed)) {
        throw Error(ErrorCode::kCancelled, "the request was cancelled");
      }
      const StepScope scope(*backend_);
      RunLayer(layer, x, spans);
    }
    Tensor logits;
    if (!logit_rows.empty()) {
      const bool all = static_cast<int64_t>(logit_rows.size()) == x.rows;
      const Tensor last = all ? x : backend_->TakeRows(x, logit_rows);
      const Tensor normed = backend_->RmsNorm(last, *final_norm_, config_.norm_eps);
      const LinearWeight* const head = output_ ? output_.get() : embedding_.get();
      backend_->Linear(normed, std::array{head}, std::span(&logits, 1));
    }
    for (const SequenceRows& rows : batch) {
      rows.state->Commit(static_cast<int64_t>(rows.tokens.size()));
    }
    return logits;
  }

 private:
  void RunLayer(int32_t index, const Tensor& x, std::span<const RowSpan> spans) {
    const DenseLayer& layer = layers_[static_cast<size_t>(index)];
    const Tensor attention_in = backend_->RmsNorm(x, *layer.attention_norm, config_.norm_eps);
    std::array<Tensor, 3> qkv;
    backend_->Linear(
        attention_in,
        std::array<const LinearWeight*, 3>{layer.q.get(), layer.k.get(), layer.v.get()}, qkv);
    auto [q, k, v] = qkv;
    if (config_.qk_norm) {
      q = backend_->RmsNorm(q, *layer.q_norm, config_.norm_eps);
      k = backend_->RmsNorm(k, *layer.k_norm, config_.norm_eps);
    }
    backend_->Rope(q, config_.q_heads, config_.rope, spans);
    backend_->Rope(k, config_.kv_heads, config_.rope, spans);
    const Tensor mixed = backend_->Attention(q, k, v, index, attention_, spans);
    Tensor projected;
    backend_->Linear(mixed, std::array<const LinearWeight*, 1>{layer.o.get()},
                     std::span(&projected, 1));
    backend_->AddInPlace(x, projected);

    const Tensor mlp_in = backend_->RmsNorm(x, *layer.mlp_norm, config_.norm_eps);
    std::array<Tensor, 2> gate_up;
    backend_->Linear(mlp_in, std::array<const LinearWeight*, 2>{layer.gate.get(), layer.up.get()},
                     gate_up);
    const Tensor activated = backend_->SwiGlu(gate_up[0], gate_up[1]);
    Tensor down;
    backend_->Linear(activated, std::array<const LinearWeight*, 1>{layer.down.get()},
                     std::span(&down, 1));
    backend_->AddInPlace(x, down);
  }

  void Bind(const LoadContext& context) {
    const int64_t hidden = config_.shape.hidden_size;
    const int64_t q_size = static_cast<int64_t>(config_.q_heads) * config_.head_dim;
    const int64_t kv_size = static_cast<int64_t>(config_.kv_heads) * config_.head_dim;
    attention_ = {.q_heads = config_.q_heads,
                  .kv_heads = config_.kv_heads,
                  .head_dim = config_.head_dim,
                  .scale = 1.0F / std::sqrt(static_cast<float>(config_.head_dim))};
    // An untied table is read one row a token, a tied one is the output layer as well.
    embedding_ = LoadLinear(context, "model.embed_tokens", config_.shape.vocab_size, hidden, false);
    uint64_t active = config_.tie_word_embeddings ? embedding_->bytes() : 0;
    layers_.resize(static_cast<size_t>(config_.shape.layers));
    for (size_t i = 0; i < layers_.size(); ++i) {
      const std::string prefix = "model.layers." + std::to_string(i) + ".";
      const std::string attention = prefix + "self_attn.";
      const std::string mlp = prefix + "mlp.";
      DenseLayer& layer = layers_[i];
      layer.attention_norm = LoadVector(context, prefix + "input_layernorm.weight", hidden);
      layer.q = LoadLinear(context, attention + "q_proj", q_size, hidden, config_.qkv_bias);
      layer.k = LoadLinear(context, attention + "k_proj", kv_size, hidden, config_.qkv_bias);
      layer.v = LoadLinear(context, attention + "v_proj", kv_size, hidden, config_.qkv_bias);
      layer.o = LoadLinear(context, attention + "o_proj", hidden, q_size, config_.o_bias);
      if (config_.qk_norm) {
        layer.q_norm = LoadVector(context, attention + "q_norm.weight", config_.head_dim);
        layer.k_norm = LoadVector(context, attention + "k_norm.weight", config_.head_dim);
      }
      layer.mlp_norm = LoadVector(context, prefix + "post_attention_layernorm.weight", hidden);
      const int64_t intermediate = config_.intermediate_size;
      layer.gate = LoadLinear(context, mlp + "gate_proj", intermediate, hidden, config_.mlp_bias);
      layer.up = LoadLinear(context, mlp + "up_proj", intermediate, hidden, config_.mlp_bias);
      layer.down = LoadLinear(context, mlp + "down_proj", hidden, intermediate, config_.mlp_bias);
      for (const auto* weight :
           {&layer.q, &layer.k, &layer.v, &layer.o, &layer.gate, &layer.up, &layer.down}) {
        active += (*weight)->bytes();
      }
    }
    final_norm_ = LoadVector(context, "model.norm.weight", hidden);
    if (!config_.tie_word_embeddings) {
      output_ = LoadLinear(context, "lm_head", config_.shape.vocab_size, hidden, false);
      active += output_->bytes();
    }
    active_weight_bytes_ = active;
  }

  std::unique_ptr<LinearWeight> LoadLinear(const LoadContext& context, const std::string& module,
                                           int64_t out, int64_t in, bool bias) {
    const formats::LinearSource source = context.checkpoint.Linear(module, out, in);
    if (bias != source.bias.has_value()) {
      throw Error(ErrorCode::kCorruptFile,
                  context.checkpoint.dir().string() + ": tensor " + module + ".bias is " +
                      (bias ? "missing, but config.json asks for it"
                            : "there, but config.json says that there is none"));
    }
    auto weight = backend_->LoadLinear({.out_features = out,
                                        .in_features = in,
                                        .affine = source.affine,
                                        .dense = source.weight,
                                        .bias = source.bias},
                                       "weights");
    if (context.on_bytes) {
      context.on_bytes(weight->bytes());
    }
    return weight;
  }

  std::unique_ptr<VectorWeight> LoadVector(const LoadContext& context, const std::string& name,
                                           int64_t size) {
    return backend_->LoadVector(context.checkpoint.RequireTensor(name, Shape{size}));
  }

  DenseConfig config_;
  std::shared_ptr<backend::Backend> backend_;
  DType kv_dtype_;
  backend::AttentionSpec attention_;
  std::unique_ptr<LinearWeight> embedding_;
  std::vector<DenseLayer> layers_;
  std::unique_ptr<VectorWeight> final_norm_;
  std::unique_ptr<LinearWeight> output_;  // null if tied
  uint64_t active_weight_bytes_ = 0;
};

}  // namespace

DenseConfig ReadDenseConfig(const formats::Checkpoint& checkpoint) {
  const formats::ConfigReader& config = checkpoint.config();
  DenseConfig dense;
  dense.shape.layers = static_cast<int32_t>(config.RequireInt("num_hidden_layers", 1, 4096));
  dense.shape.hidden_size = static_cast<int32_t>(config.RequireInt("hidden_size", 1, 1 << 20));
  dense.shape.vocab_size = static_cast<int32_t>(config.RequireInt("vocab_size", 1, 1 << 24));
  dense.shape.max_context = config.IntOr("max_position_embeddings", 2048, 1, int64_t{1} << 32);
  dense.q_heads = static_cast<int32_t>(config.RequireInt("num_attention_heads", 1, 4096));
  dense.kv_heads =
      static_cast<int32_t>(config.IntOr("num_key_value_heads", dense.q_heads, 1, 4096));
  if (dense.q_heads % dense.kv_heads != 0) {
    config.Fail("num_key_value_heads",
                "a divisor of num_attention_heads (" + std::to_string(dense.q_heads) + ")");
  }
  dense.head_dim = static_cast<int32_t>(
      config.IntOr("head_dim", dense.shape.hidden_size / dense.q_heads, 1, 4096));
  if (dense.head_dim % 16 != 0) {
    config.Fail(config.Has("head_dim") ? "head_dim" : "num_attention_heads",
                "heads of a multiple of 16 dimensions, not " + std::to_string(dense.head_dim));
  }
  dense.intermediate_size =
      static_cast<int32_t>(config.RequireInt("intermediate_size", 1, 1 << 24));
  dense.norm_eps = static_cast<float>(config.FloatOr("rms_norm_eps", 1e-6, 0, 1));
  // Writers leave the field out where it has their library's default, and the defaults differ:
  // what the file holds decides then.
  dense.tie_word_embeddings = config.OptionalBool("tie_word_embeddings")
                                  .value_or(!checkpoint.FindTensor("lm_head.weight").has_value());
  if (const auto act = config.OptionalString("hidden_act"); act && *act != "silu") {
    config.Fail("hidden_act", "\"silu\"");
  }
  dense.rope = ReadRope(config, dense.head_dim);
  return dense;
}

std::unique_ptr<Model> MakeDenseDecoder(const LoadContext& context, DenseConfig config) {
  return std::make_unique<DenseDecoder>(context, std::move(config));
}

}  // namespace mach::models
