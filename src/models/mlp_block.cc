#include "models/mlp_block.h"

#include <array>

namespace mach::models {
namespace {

using backend::LinearWeight;
using backend::Tensor;

class MlpBlock final : public Block {
 public:
  MlpBlock(const DecoderConfig& config, WeightLoader& loader, size_t layer)
      : norm_eps_(config.norm_eps),
        backend_(loader.backend()),
        norm_(loader.Norm(config.LayerPrefix(layer) + "post_attention_layernorm",
                          config.hidden_size)),
        mlp_(loader, config.LayerPrefix(layer) + "mlp", config.hidden_size, config.mlp) {}

  void Run(const Tensor& x, const BlockStep& /*step*/) override {
    backend_.AddInPlace(x, mlp_.Run(backend_, backend_.RmsNorm(x, *norm_, norm_eps_)));
  }

 private:
  const float norm_eps_;
  backend::Backend& backend_;
  const std::unique_ptr<backend::VectorWeight> norm_;
  const GatedMlp mlp_;
};

}  // namespace

GatedMlp::GatedMlp(WeightLoader& loader, const std::string& module, int64_t hidden_size,
                   const MlpConfig& config)
    : gate_(
          loader.Linear(module + ".gate_proj", config.intermediate_size, hidden_size, config.bias)),
      up_(loader.Linear(module + ".up_proj", config.intermediate_size, hidden_size, config.bias)),
      down_(loader.Linear(module + ".down_proj", hidden_size, config.intermediate_size,
                          config.bias)) {}

Tensor GatedMlp::Run(backend::Backend& backend, const Tensor& x) const {
  std::array<Tensor, 2> gate_up;
  backend.Linear(x, std::array<const LinearWeight*, 2>{gate_.get(), up_.get()}, gate_up);
  return Apply(backend, *down_, backend.SwiGlu(gate_up[0], gate_up[1]));
}

std::unique_ptr<Block> MakeMlpBlock(const DecoderConfig& config, WeightLoader& loader,
                                    size_t layer) {
  return std::make_unique<MlpBlock>(config, loader, layer);
}

}  // namespace mach::models
