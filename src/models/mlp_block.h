// The gated MLP, down(silu(gate x) * up x): as a dense layer's feed-forward, and as the shared
// expert inside a mixture (moe_block.h).
#pragma once

#include <memory>
#include <string>

#include "models/block.h"
#include "models/decoder_config.h"
#include "models/weight_loader.h"

namespace mach::models {

// The three matrices without norm and residual.
class GatedMlp {
 public:
  // `module` is "model.layers.0.mlp" or the like.
  GatedMlp(WeightLoader& loader, const std::string& module, int64_t hidden_size,
           const MlpConfig& config);

  backend::Tensor Run(backend::Backend& backend, const backend::Tensor& x) const;

 private:
  std::unique_ptr<backend::LinearWeight> gate_, up_, down_;
};

std::unique_ptr<Block> MakeMlpBlock(const DecoderConfig& config, WeightLoader& loader,
                                    size_t layer);

}  // namespace mach::models
