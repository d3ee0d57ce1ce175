// What loading a checkpoint will do, decided from its headers: whether it can run as asked, how its
// experts are kept, what memory that takes. Everything that can be refused without reading weights
// is refused here, or where the text side is read (served_model.h). One thread plans and loads.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "formats/checkpoint.h"
#include "loading/memory_plan.h"

namespace mach::loading {

struct LoadPlan {
  std::unique_ptr<formats::Checkpoint> checkpoint;
  std::optional<ExpertInventory> inventory;  // none for dense models
  MemoryPlan memory;                         // and the options that it decided
};

// Takes well under a second. Throws mach::Error naming file and field, with the command that helps:
// kResourceLimit if the shortest context does not fit below the ceiling or, without one, into the
// memory that is available.
LoadPlan PlanLoading(ModelOptions options);

// Throws as loading `dir` would that reads its weights, and warns in the log of what serving would
// refuse besides: for whoever has just written it.
void RequireLoadable(const std::filesystem::path& dir);

// How many tensors of a Mixture-of-Experts checkpoint are not of the language model, by reason:
// "vision tower", "multi-token prediction head". Engine checkpoints hold none.
std::map<std::string, int64_t> LeftOut(const formats::Checkpoint& checkpoint);
}  // namespace mach::loading
