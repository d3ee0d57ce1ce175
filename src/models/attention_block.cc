#include "models/attention_block.h"

#include <array>
#include <cmath>
#include <string>

namespace mach::models {
namespace {

using backend::LinearWeight;
using backend::Tensor;
using backend::VectorWeight;

class AttentionBlock final : public Block {
 public:
  AttentionBlock(const DecoderConfig& config, WeightLoader& loader, size_t layer, int32_t kv_layer)
      : config_(config.attention),
        norm_eps_(config.norm_eps),
        kv_layer_(kv_layer),
        spec_({.q_heads = config_.q_heads,
               .head_dim = config_.head_dim,
               .scale = 1.0F / std::sqrt(static_cast<float>(config_.head_dim))}),
        backend_(loader.backend()) {
    const int64_t hidden = config.hidden_size;
    const int64_t q_size = int64_t{config_.q_heads} * config_.head_dim;
    const int64_t kv_size = int64_t{config_.kv_heads} * config_.head_dim;
    const int64_t q_rows = config_.output_gate ? 2 * q_size : q_size;
    const std::string attention = config.LayerPrefix(layer) + "self_attn.";
    norm_ = loader.Norm(config.LayerPrefix(layer) + "input_layernorm", hidden);
    q_ = loader.Linear(attention + "q_proj", q_rows, hidden, config_.qkv_bias);
    k_ = loader.Linear(attention + "k_proj", kv_size, hidden, config_.qkv_bias);
    v_ = loader.Linear(attention + "v_proj", kv_size, hidden, config_.qkv_bias);
    o_ = loader.Linear(attention + "o_proj", hidden, q_size, config_.o_bias);
    if (config_.qk_norm) {
      q_norm_ = loader.Norm(attention + "q_norm", config_.head_dim);
      k_norm_ = loader.Norm(attention + "k_norm", config_.head_dim);
    }
  }

  void Run(const Tensor& x, const BlockStep& step) override {
    const Tensor normed = backend_.RmsNorm(x, *norm_, norm_eps_);
    std::array<Tensor, 3> qkv;
    backend_.Linear(normed, std::array<const LinearWeight*, 3>{q_.get(), k_.get(), v_.get()}, qkv);
    auto [q, k, v] = qkv;
    Tensor gate;
    if (config_.output_gate) {
      const Tensor query_and_gate = q;
      backend_.SplitHeads(query_and_gate, config_.q_heads, q, gate);
    }
    if (config_.qk_norm) {
      q = backend_.RmsNorm(q, *q_norm_, norm_eps_);
      k = backend_.RmsNorm(k, *k_norm_, norm_eps_);
    }
    backend_.Rope(q, config_.q_heads, step.angles);
    backend_.Rope(k, config_.kv_heads, step.angles);
    const Tensor mixed = backend_.Attention(q, k, v, kv_layer_, spec_, step.spans);
    if (config_.output_gate) {
      backend_.SigmoidGateInPlace(mixed, gate);
    }
    backend_.AddInPlace(x, Apply(backend_, *o_, mixed));
  }

 private:
  const AttentionConfig config_;
  const float norm_eps_;
  const int32_t kv_layer_;
  const backend::AttentionSpec spec_;
  backend::Backend& backend_;
  std::unique_ptr<VectorWeight> norm_;
  std::unique_ptr<LinearWeight> q_, k_, v_, o_;
  std::unique_ptr<VectorWeight> q_norm_, k_norm_;  // null without qk_norm
};

}  // namespace

std::unique_ptr<Block> MakeAttentionBlock(const DecoderConfig& config, WeightLoader& loader,
                                          size_t layer, int32_t kv_layer) {
  return std::make_unique<AttentionBlock>(config, loader, layer, kv_layer);
}

}  // namespace mach::models
