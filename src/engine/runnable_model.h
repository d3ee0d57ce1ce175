// A checkpoint loaded as far as it can run: backend, experts and model, by a memory plan. Without
// tokenizer and engine, which served_model.h adds.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "backend/backend.h"
#include "base/error.h"
#include "engine/expert_loading.h"
#include "engine/memory_plan.h"
#include "experts/expert_store.h"
#include "formats/checkpoint.h"
#include "models/model.h"
#include "tensor/memory.h"

namespace mach::engine {

struct RunnableOptions {
  std::filesystem::path checkpoint;  // a directory: Hugging Face, MLX or engine checkpoint
  int threads = 0;                   // 0 = physical cores
  int64_t max_context = 0;           // tokens; 0 = the model's own limit
  int64_t prefill_chunk = 0;         // tokens; 0 = chosen (memory_plan.h)
  ExpertOptions experts;
};

// Written by the loader, read by anyone.
struct LoadProgress {
  std::atomic<uint64_t> bytes_done{0};
  std::atomic<uint64_t> bytes_total{0};
};

// How the experts of a loaded model are served: what really happened, for signals and reports.
struct ExpertServing {
  bool streaming = false;        // else all resident
  bool sidecar_present = false;  // and sound, or loading would have failed
  bool transient_prefill = false;
  bool prefetch = false;
  bool direct = false;  // reads bypass the page cache
  bool allow_buffered = false;
  std::string io = "none";  // "io_uring", "pread"
  std::string policy;
  uint64_t cache_bytes = 0;  // of the streamed bank
};

// Members are destroyed in reverse order: the model before its experts.
struct RunnableModel {
  std::unique_ptr<formats::Checkpoint> checkpoint;
  MemoryPlan plan;
  std::optional<ExpertServing> serving;  // none for dense models
  std::shared_ptr<backend::Backend> backend;
  std::unique_ptr<experts::ExpertStore> experts;  // null for dense models
  std::unique_ptr<models::Model> model;
};

// That there is no tokenizer.json in `dir`, which running a model does without and serving does
// not.
Error NoTokenizer(const std::filesystem::path& dir);

// A checkpoint whose headers say that it can be served as asked.
struct ServableCheckpoint {
  std::unique_ptr<formats::Checkpoint> checkpoint;
  std::optional<ExpertInventory> experts;  // none for dense models
};

// Reads headers only. Throws mach::Error naming file and field, with the command that helps.
ServableCheckpoint OpenServable(const RunnableOptions& options);

// `budget` must outlive the result; its ceiling is the plan's. `progress` may be null. Throws
// mach::Error naming file and field.
RunnableModel LoadRunnable(ServableCheckpoint source, const RunnableOptions& options,
                           MemoryBudget& budget, LoadProgress* progress);
RunnableModel LoadRunnable(const RunnableOptions& options, MemoryBudget& budget,
                           LoadProgress* progress);

}  // namespace mach::engine
