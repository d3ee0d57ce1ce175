#include "models/moe_block.h"

#include <string>

namespace mach::models {

using backend::Routing;
using backend::Tensor;
using backend::WantedExpert;

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
  const auto lease = experts_.Acquire(layer_, Wanted(routing), x.rows, step.use);
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
  std::vector<int32_t> ids;
  for (const WantedExpert& expert : Wanted(Route(backend_.RmsNorm(x, *norm_, norm_eps_)))) {
    ids.push_back(expert.id);
  }
  experts_.Prefetch(layer_, ids);
}

std::vector<WantedExpert> MoeBlock::Wanted(const Routing& routing) const {
  std::vector<int32_t> rows(static_cast<size_t>(experts_.experts()), 0);
  for (const int32_t id : routing.ids) {
    ++rows[static_cast<size_t>(id)];
  }
  std::vector<WantedExpert> wanted;
  for (size_t id = 0; id < rows.size(); ++id) {
    if (rows[id] > 0) {
      wanted.push_back({static_cast<int32_t>(id), rows[id]});
    }
  }
  return wanted;
}

}  // namespace mach::models
