// The engine in this process: a queue, one inference thread, one model.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/engine.h"
#include "experts/expert_store.h"
#include "models/model.h"
#include "tensor/memory.h"
#include "text/tokenizer.h"

namespace mach::engine {

struct LocalEngineOptions {
  int64_t max_context = 0;          // tokens of prompt and output together
  int64_t prefill_chunk = 0;        // tokens of one forward; bounds activation memory
  int32_t max_queue = 256;          // requests waiting
  std::vector<int32_t> end_tokens;  // the model's own: generation ends, nothing is shown
};

// `experts` is the store that the model uses, null for dense models: the engine reports its numbers
// and saves its heat map when it stops. All references outlive the engine.
std::unique_ptr<Engine> MakeLocalEngine(std::unique_ptr<models::Model> model,
                                        experts::ExpertStore* experts,
                                        const text::Tokenizer& tokenizer,
                                        const MemoryBudget& budget, LocalEngineOptions options);

}  // namespace mach::engine
