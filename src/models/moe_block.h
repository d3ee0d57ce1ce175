// A mixture of experts: the router picks top_k experts for each token, whose weighted outputs are
// added; with a shared expert, sigmoid(gate x) times its output too. The experts' weights are
// records of a backend::ExpertSource, in memory or on disk: this block asks for them as soon as it
// knows which, and computes the shared expert while they are read.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "models/block.h"
#include "models/decoder_config.h"
#include "models/mlp_block.h"
#include "models/weight_loader.h"

namespace mach::models {

class MoeBlock final : public Block {
 public:
  // `experts` must outlive the block and fit `config`.
  MoeBlock(const DecoderConfig& config, WeightLoader& loader, size_t layer,
           backend::ExpertSource& experts);

  void Run(const backend::Tensor& x, const BlockStep& step) override;

  // The mixture of a later layer, whose experts this one guesses in decoding steps while its own
  // are read (early routing): that layer's norm and router, applied to the hidden state of now.
  // Null: no guess. Both live in the same decoder.
  void set_next(MoeBlock* next) { next_ = next; }

 private:
  backend::Routing Route(const backend::Tensor& normed);
  void PrefetchFor(const backend::Tensor& x);
  // The experts that occur, each once, ascending.
  std::vector<backend::WantedExpert> Wanted(const backend::Routing& routing) const;

  const int32_t layer_;
  const float norm_eps_;
  const backend::RouterSpec router_spec_;
  backend::Backend& backend_;
  backend::ExpertSource& experts_;
  MoeBlock* next_ = nullptr;
  std::unique_ptr<backend::VectorWeight> norm_;
  std::unique_ptr<backend::LinearWeight> router_;
  std::optional<GatedMlp> shared_;
  std::unique_ptr<backend::LinearWeight> shared_gate_;  // null without a shared expert
};

}  // namespace mach::models
