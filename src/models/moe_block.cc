#include "models/moe_block.h"

#include <string>

namespace mach::models {

using backend::Routing;
using backend::Tensor;

MoeBlock::MoeBlock(const DecoderConfig& config, WeightLoader& loader, size_t layer,
                   backend::ExpertSource& experts)
    : layer_(static_cast<int32_t>(layer)),
      norm_eps_(config.norm_eps),
      router_spec_(config.moe.router),
      backend_(loader.backend()),
      experts_(experts) {
  const int64_t hidden = config.hidden_size;
  const std::string mlp = config.LayerPrefix(layer) + "mlp.";
  norm_ = loader.Norm(config.LayerPrefix(layer) + "post_attention_layernorm", hidden);
  router_ = loader.Linear(mlp + "gate", config.moe.experts.experts, hidden);
  if (config.moe.shared_intermediate_size > 0) {
    shared_.emplace(loader, mlp + "shared_expert", hidden,
                    MlpConfig{.intermediate_size = config.moe.shared_intermediate_size});
    shared_gate_ = loader.Linear(mlp + "shared_expert_gate", 1, hidden);
  }
}

void MoeBlock::Run(const Tensor& x, const BlockStep& step) {
  const Tensor normed = backend_.RmsNorm(x, *norm_, norm_eps_);
  const Routing routing = Route(normed);
  const auto lease = experts_.Acquire(layer_, Distinct(routing), step.use);
  const bool decode = step.use == backend::ExpertUse::kDecode;
  if (next_ != nullptr && decode && experts_.prefetches()) {
    next_->PrefetchFor(x);  // after Acquire: what is wanted now is read first
  }
  Tensor shared;
  Tensor shared_gate;
  if (shared_) {
    shared = shared_->Run(backend_, normed);
    shared_gate = Apply(backend_, *shared_gate_, normed);
  }
  const Tensor mixture = backend_.ExpertMixture(normed, routing, experts_.layout(), *lease);
  if (shared_) {
    backend_.AddGatedInPlace(mixture, shared, shared_gate);
  }
  backend_.AddInPlace(x, mixture);
}

Routing MoeBlock::Route(const Tensor& normed) {
  return backend_.Route(Apply(backend_, *router_, normed), router_spec_);
}

void MoeBlock::PrefetchFor(const Tensor& x) {
  const backend::StepScope scope(backend_);
  experts_.Prefetch(layer_, Distinct(Route(backend_.RmsNorm(x, *norm_, norm_eps_))));
}

std::vector<int32_t> MoeBlock::Distinct(const Routing& routing) const {
  std::vector<bool> used(static_cast<size_t>(experts_.experts()));
  for (const int32_t id : routing.ids) {
    used[static_cast<size_t>(id)] = true;
  }
  std::vector<int32_t> ids;
  for (size_t id = 0; id < used.size(); ++id) {
    if (used[id]) {
      ids.push_back(static_cast<int32_t>(id));
    }
  }
  return ids;
}

}  // namespace mach::models
