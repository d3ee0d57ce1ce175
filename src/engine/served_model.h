// A model ready to serve: everything between a checkpoint path and an Engine.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "engine/engine.h"
#include "engine/runnable_model.h"
#include "models/registry.h"
#include "tensor/memory.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace mach::engine {

struct LoadOptions : RunnableOptions {
  std::string served_name;            // the model id clients see; empty = the directory's name
  uint64_t memory_ceiling_bytes = 0;  // of the whole process; 0 = none
  int32_t max_queue = 256;            // requests waiting; more are refused
};

struct ModelInfo {
  std::string id;
  std::optional<models::ArchInfo> arch;
  int64_t max_context = 0;  // tokens
  int32_t layers = 0;
  int32_t experts = 0;
  int32_t vocab_size = 0;
  uint64_t weight_bytes = 0;                     // that one token's forward reads
  int64_t prefill_chunk = 0;                     // tokens of one forward at most
  std::optional<ExpertServing> experts_serving;  // none for dense models
  int threads = 0;
  std::string isa;
  int64_t created_unix_s = 0;
};

// From generation_config.json: what unset sampling fields of a request become. Absent here means
// OpenAI's default.
struct GenerationDefaults {
  std::optional<float> temperature;
  std::optional<float> top_p;
  std::optional<float> min_p;
  std::optional<int32_t> top_k;
  std::optional<float> repetition_penalty;
};

// Members are destroyed in reverse order: the engine before what it uses.
struct ServedModel {
  ServedModel();
  ServedModel(const ServedModel&) = delete;
  ServedModel& operator=(const ServedModel&) = delete;
  ~ServedModel();

  std::unique_ptr<MemoryBudget> budget;
  std::unique_ptr<experts::ExpertStore> experts;  // null for dense models
  ModelInfo info;
  GenerationDefaults defaults;
  std::string bos_token;  // for the chat template; may be empty
  std::string eos_token;
  std::unique_ptr<text::Tokenizer> tokenizer;
  std::unique_ptr<text::ChatTemplate> chat_template;  // null if the checkpoint has none
  std::unique_ptr<Engine> engine;
};

// The last part of a path, as `ls` would show it: of ".", the working directory's.
std::string DirectoryName(const std::filesystem::path& path);

// Carries out a plan for `options`. Throws mach::Error naming the file and field.
std::unique_ptr<ServedModel> LoadModel(LoadPlan plan, const LoadOptions& options,
                                       LoadProgress* progress);

}  // namespace mach::engine
