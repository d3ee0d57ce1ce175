// What a model will take of memory, before it is loaded, and what follows from that: how large the
// expert bank and the chunks of prefill may be. `mach check` prints a plan, loading carries it out.
//
// The model is built on the dry backend, so the prediction comes from the code that loads it.
// Blocks for some tens of milliseconds; one thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "formats/checkpoint.h"
#include "loading/expert_loading.h"

namespace mach::loading {

// The smallest context the planner chooses when the user sets none, in tokens.
inline constexpr int64_t kLeastContext = 2048;

enum class Verdict { kFits, kTight, kWontFit };

struct MemoryPlan {
  // As asked for, with what was left open decided: the sizes of bank (of whole records) and arena,
  // the chunk of prefill, and max_context, the tokens that a request may have. That is what was
  // asked for, else the model's own limit or what limit_bytes has room for, in which case it is at
  // least min(own limit, kLeastContext).
  ModelOptions options;
  // By owner, as MemoryBudget books it, with `context` tokens in use by each of as many sequences
  // as options.engine.limits lets run, a step of decoding between the layers of a chunk where they
  // let one, and the bank full; "process": the program itself, its tokenizer and its threads; and
  // of a model that is served "requests", a share for what clients send and get, and "grammars",
  // what holds answers to schemas and calls.
  std::map<std::string, uint64_t> bytes;
  uint64_t total_bytes = 0;
  uint64_t least_bytes = 0;       // total_bytes with at most kLeastContext tokens in use
  uint64_t limit_bytes = 0;       // what there is: ceiling or available memory; 0 = not known
  uint64_t target_bytes = 0;      // what was planned for: the ceiling, or 90 % of available memory
  int64_t model_context = 0;      // the model's own limit, in tokens
  int64_t context = 0;            // tokens that were planned for
  uint64_t activation_bytes = 0;  // for Backend::ReserveActivations
  // What requests may take: their share, and what is left beside max_context tokens. 0 = not known.
  uint64_t request_bytes = 0;
  uint64_t weight_bytes = 0;  // that loading reads, as LoadContext::on_bytes counts them

  int64_t max_context() const { return options.engine.max_context; }
  int64_t prefill_chunk() const { return options.engine.prefill_chunk; }
  uint64_t bank_bytes() const { return options.streaming.bank_bytes; }  // 0: nothing is streamed
  uint64_t Of(const std::string& owner) const {
    const auto it = bytes.find(owner);
    return it == bytes.end() ? 0 : it->second;
  }
  // With `context` tokens: within target_bytes, within limit_bytes, or neither.
  Verdict Judge() const;
};

// Reads headers only. The context planned for is the one that the user asked for, else the model's
// own up to 32,768 tokens. Without a size of the bank it gets what is left beside that context and
// a chunk of 2,048 tokens (fewer, down to 512, where the bank would be smaller than the chunk's
// activations), at least one layer's top_k experts and at most all. The arena gets a whole layer
// where memory has room for it beside that, else what follows from the bank. Without a
// prefill_chunk a Mixture-of-Experts model gets the largest power of two from 512 to 8,192 that
// fits beside all that, a dense one 512. `available_bytes` is free for this process, without a
// ceiling (platform/machine_memory.h); 0 = not known. Throws mach::Error for a checkpoint that
// cannot be loaded.
MemoryPlan PlanMemory(const formats::Checkpoint& checkpoint,
                      const std::optional<ExpertInventory>& inventory, const ModelOptions& options,
                      uint64_t available_bytes);

}  // namespace mach::loading
