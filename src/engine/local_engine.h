// The engine in this process: one inference thread, one model.
//
// The thread owns all state of inference. It asks the scheduler what comes next and does that:
// takes a request from the mailbox, prefills a chunk of its prompt or some layers of one, begins
// one of its choices, or runs a step of decoding. A request that fails, or whose sink throws, ends
// there.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "decode/drafter.h"
#include "engine/engine.h"
#include "engine/scheduler.h"
#include "experts/expert_store.h"
#include "models/model.h"
#include "tensor/memory.h"
#include "text/tokenizer.h"

namespace mach::engine {

// A drafter of one choice of a request; null = its tokens come one by one.
using DrafterMaker =
    std::function<std::unique_ptr<decode::Drafter>(const GenerationRequest&, int32_t choice)>;

struct LocalEngineOptions {
  int64_t max_context = 0;          // tokens of prompt and output together
  int64_t prefill_chunk = 0;        // tokens of one forward; bounds activation memory
  int32_t max_queue = 256;          // requests waiting
  std::vector<int32_t> end_tokens;  // the model's own: generation ends, nothing is shown
  EngineLimits limits;
  Scheduler scheduler;        // empty: NextStep within `limits`
  DrafterMaker make_drafter;  // empty: nothing is drafted
  int64_t most_drafts = 0;    // of one sequence in one step
};

// `experts` is the store that the model uses, null for dense models: the engine reports its numbers
// and saves its heat map when it stops. All references outlive the engine.
std::unique_ptr<Engine> MakeLocalEngine(std::unique_ptr<models::Model> model,
                                        experts::ExpertStore* experts,
                                        const text::Tokenizer& tokenizer,
                                        const MemoryBudget& budget, LocalEngineOptions options);

}  // namespace mach::engine
