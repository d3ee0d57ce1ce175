#include "models/gated_delta_block.h"

#include <array>
#include <string>

namespace mach::models {
namespace {

using backend::LinearWeight;
using backend::Tensor;
using backend::VectorWeight;

class GatedDeltaBlock final : public Block {
 public:
  GatedDeltaBlock(const DecoderConfig& config, WeightLoader& loader, size_t layer,
                  int32_t recurrent_layer)
      : norm_eps_(config.norm_eps), recurrent_layer_(recurrent_layer), backend_(loader.backend()) {
    const GatedDeltaConfig& sizes = config.gated_delta;
    const int64_t hidden = config.hidden_size;
    const int64_t channels = config.RecurrentShape().conv_channels();
    const int64_t value_size = int64_t{sizes.v_heads} * sizes.v_dim;
    const std::string module = config.LayerPrefix(layer) + "linear_attn.";
    input_norm_ = loader.Norm(config.LayerPrefix(layer) + "input_layernorm", hidden);
    qkv_ = loader.Linear(module + "in_proj_qkv", channels, hidden);
    z_ = loader.Linear(module + "in_proj_z", value_size, hidden);
    a_ = loader.Linear(module + "in_proj_a", sizes.v_heads, hidden);
    b_ = loader.Linear(module + "in_proj_b", sizes.v_heads, hidden);
    out_ = loader.Linear(module + "out_proj", hidden, value_size);
    conv_ = loader.DepthwiseConv(module + "conv1d", channels, sizes.conv_kernel);
    a_log_ = loader.Vector(module + "A_log", Shape{sizes.v_heads});
    dt_bias_ = loader.Vector(module + "dt_bias", Shape{sizes.v_heads});
    // A plain gain in every layout, unlike the other norms.
    output_norm_ = loader.Vector(module + "norm.weight", Shape{sizes.v_dim});
  }

  void Run(const Tensor& x, const BlockStep& step) override {
    const Tensor normed = backend_.RmsNorm(x, *input_norm_, norm_eps_);
    std::array<Tensor, 4> projected;
    backend_.Linear(normed,
                    std::array<const LinearWeight*, 4>{qkv_.get(), z_.get(), a_.get(), b_.get()},
                    projected);
    const auto [qkv, z, a, b] = projected;
    const Tensor mixed = backend_.GatedDelta({.qkv = qkv, .z = z, .a = a, .b = b},
                                             {.conv = conv_.get(),
                                              .a_log = a_log_.get(),
                                              .dt_bias = dt_bias_.get(),
                                              .norm = output_norm_.get()},
                                             {.norm_eps = norm_eps_}, recurrent_layer_, step.spans);
    backend_.AddInPlace(x, Apply(backend_, *out_, mixed));
  }

 private:
  const float norm_eps_;
  const int32_t recurrent_layer_;
  backend::Backend& backend_;
  std::unique_ptr<VectorWeight> input_norm_;
  std::unique_ptr<LinearWeight> qkv_, z_, a_, b_, out_;
  std::unique_ptr<VectorWeight> conv_, a_log_, dt_bias_, output_norm_;
};

}  // namespace

std::unique_ptr<Block> MakeGatedDeltaBlock(const DecoderConfig& config, WeightLoader& loader,
                                           size_t layer, int32_t recurrent_layer) {
  return std::make_unique<GatedDeltaBlock>(config, loader, layer, recurrent_layer);
}

}  // namespace mach::models
