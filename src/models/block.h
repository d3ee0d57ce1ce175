// A residual block of a decoder layer: x += f(rms(x)). A layer is two of them, a mixer, which lets
// tokens see earlier ones (attention_block.h, gated_delta_block.h), and a feed-forward, which works
// on each token alone (mlp_block.h, moe_block.h). Owns its weights. The inference thread's own.
#pragma once

#include <span>

#include "backend/backend.h"

namespace mach::models {

// What the blocks of a step are told besides its rows.
struct BlockStep {
  std::span<const backend::RowSpan> spans;
  backend::Tensor angles;  // of the rows, for attention layers
  backend::ExpertUse use = backend::ExpertUse::kDecode;
};

class Block {
 public:
  virtual ~Block() = default;

  // Changes x [rows, hidden] in place. The caller holds a StepScope.
  virtual void Run(const backend::Tensor& x, const BlockStep& step) = 0;
};

// out = W x for a single W.
inline backend::Tensor Apply(backend::Backend& backend, const backend::LinearWeight& weight,
                             const backend::Tensor& x) {
  const backend::LinearWeight* const one = &weight;
  backend::Tensor out;
  backend.Linear(x, std::span(&one, 1), std::span(&out, 1));
  return out;
}

}  // namespace mach::models
