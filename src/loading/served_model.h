// A model ready to serve: plans and loads all that stands between the path of a checkpoint and an
// Engine, text side included, and says what came of it (ModelInfo). Loading blocks for as long as
// the weights take to read; the result is used from any thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "engine/engine.h"
#include "loading/runnable_model.h"
#include "loading/served_text.h"
#include "loading/serving_path.h"
#include "models/registry.h"
#include "tensor/memory.h"

namespace mach::loading {

// A LoadPlan and the text side, which is small enough to be read before anything is promised.
struct ServePlan {
  LoadPlan load;
  ServedText text;
};

// All that can be refused without reading weights. Throws as PlanLoading and LoadText do.
ServePlan PlanServing(const ModelOptions& options);

// What is served, and how: the one description from which the start-up lines, /v1/capabilities and
// /v1/stats are made. Filled in when all is loaded, by asking each part what it is and does.
struct ModelInfo {
  std::string id;
  models::ArchInfo arch;
  int64_t max_context = 0;     // tokens
  uint64_t request_bytes = 0;  // that requests may take beside the model; 0 = no limit
  int32_t layers = 0;
  int32_t experts = 0;
  int32_t vocab_size = 0;
  uint64_t weight_bytes = 0;  // that one token's forward reads
  int64_t prefill_chunk = 0;  // tokens of one forward at most
  ServingPath path = ServingPath::kOpenAi;
  DecodePath decode;
  std::optional<ExpertServing> experts_serving;  // none for dense models
  int threads = 0;
  std::string isa;
  int64_t created_unix_s = 0;
};

// Members are destroyed in reverse order, and before the text side: the engine before what it uses.
struct ServedModel : ServedText {
  ServedModel();
  ServedModel(const ServedModel&) = delete;
  ServedModel& operator=(const ServedModel&) = delete;
  ~ServedModel();

  std::unique_ptr<MemoryBudget> budget;
  std::unique_ptr<experts::ExpertStore> experts;  // null for dense models
  ModelInfo info;
  std::unique_ptr<engine::Engine> engine;
};

// The last part of a path, as `ls` would show it: of ".", the working directory's.
std::string DirectoryName(const std::filesystem::path& path);

// Carries out a plan. `progress` may be null. Throws mach::Error naming the file and field.
std::unique_ptr<ServedModel> LoadModel(ServePlan plan, LoadProgress* progress);

}  // namespace mach::loading
