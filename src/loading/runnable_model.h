// A checkpoint loaded as far as it can run: backend, experts and model, by a memory plan. That is
// enough for `mach bench`, which runs the model itself; tokenizer and engine, without which nothing
// can be served, are added by served_model.h.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "backend/backend.h"
#include "experts/expert_store.h"
#include "formats/checkpoint.h"
#include "loading/load_plan.h"
#include "models/model.h"
#include "tensor/memory.h"

namespace mach::loading {

// Written by the loader, read by anyone. At the end both are equal.
struct LoadProgress {
  std::atomic<uint64_t> bytes_done{0};
  std::atomic<uint64_t> bytes_total{0};
};

// How the experts of a loaded model are served: what their store and the backend say of themselves,
// not what was asked for.
struct ExpertServing {
  bool streaming = false;  // else all resident
  bool sidecar_present = false;
  // Its manifest, fingerprint and sizes are right, or it would not be present, and what has been
  // read of it by now matched its checksums: of a streamed one a record at least, else all.
  bool sidecar_valid = false;
  bool transient_prefill = false;  // prefill streams through an arena of its own
  bool grouped_prefill = false;    // Backend::groups_expert_rows
  bool prefetch = false;
  bool direct = false;  // reads bypass the page cache
  bool allow_buffered = false;
  std::string io = "none";  // "io_uring", "pread"
  std::string policy;
  uint64_t cache_bytes = 0;  // of the streamed bank
};

// Members are destroyed in reverse order: the model before its experts, all before the budget.
struct RunnableModel {
  std::unique_ptr<MemoryBudget> budget;  // with the plan's ceiling
  std::unique_ptr<formats::Checkpoint> checkpoint;
  MemoryPlan plan;
  std::optional<ExpertServing> serving;  // none for dense models
  std::shared_ptr<backend::Backend> backend;
  std::unique_ptr<experts::ExpertStore> experts;  // null for dense models
  std::unique_ptr<models::Model> model;
};

// Carries out a plan. `progress` may be null. Throws mach::Error naming file and field.
RunnableModel LoadRunnable(LoadPlan plan, LoadProgress* progress);

}  // namespace mach::loading
