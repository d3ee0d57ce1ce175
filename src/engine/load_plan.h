// What loading a checkpoint will do, decided from its headers: whether it can be served as asked,
// how its experts are kept, what memory that takes. Everything that can be refused without reading
// weights is refused here.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "base/error.h"
#include "engine/expert_loading.h"
#include "engine/memory_plan.h"
#include "formats/checkpoint.h"

namespace mach::engine {

struct RunnableOptions {
  std::filesystem::path checkpoint;  // a directory: Hugging Face, MLX or engine checkpoint
  int threads = 0;                   // 0 = physical cores
  int64_t max_context = 0;           // tokens; 0 = the model's own limit
  int64_t prefill_chunk = 0;         // tokens; 0 = chosen (memory_plan.h)
  ExpertOptions experts;
};

struct LoadPlan {
  std::unique_ptr<formats::Checkpoint> checkpoint;
  std::optional<ExpertInventory> inventory;  // none for dense models
  RunnableOptions options;                   // with the residency decided
  MemoryPlan memory;
};

// `ceiling_bytes` is --memory-gb, 0 = none. Takes well under a second. Throws mach::Error naming
// file and field, with the command that helps: kResourceLimit if the shortest context does not fit
// below the ceiling or, without one, into the memory that is available.
LoadPlan PlanLoading(const RunnableOptions& options, uint64_t ceiling_bytes);

// How many tensors of a Mixture-of-Experts checkpoint are not of the language model, by reason:
// "vision tower", "multi-token prediction head". Engine checkpoints hold none.
std::map<std::string, int64_t> LeftOut(const formats::Checkpoint& checkpoint);

// That there is no tokenizer.json in `dir`, which running a model does without and serving does
// not.
Error NoTokenizer(const std::filesystem::path& dir);

}  // namespace mach::engine
