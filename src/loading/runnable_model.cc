#include "loading/runnable_model.h"

#include <utility>

#include "backend/cpu/cpu_backend.h"
#include "models/loader.h"

namespace mach::loading {
namespace {

// What loading the experts will read. Of a streamed bank at most: how many are hot shows when they
// are there.
uint64_t ExpertBytesToLoad(const LoadPlan& plan) {
  if (!plan.inventory) {
    return 0;
  }
  const ModelOptions& options = plan.memory.options;
  if (options.residency != Residency::kStreaming) {
    return plan.inventory->TotalBytes();
  }
  std::error_code ignored;
  const bool warm =
      options.keep_heat && std::filesystem::exists(plan.inventory->HeatFile(), ignored);
  return warm ? plan.memory.bank_bytes() : 0;
}

ExpertServing ServingOf(const experts::ExpertStore& store, const backend::Backend& backend,
                        const ExpertInventory& inventory, const ModelOptions& options) {
  const experts::ExpertStats stats = store.Stats();
  return {.streaming = stats.streaming,
          .sidecar_present = inventory.sidecar.has_value(),
          .sidecar_valid = stats.records_checked > 0,
          .transient_prefill = stats.arena_capacity > 0,
          .grouped_prefill = backend.groups_expert_rows(),
          .prefetch = store.prefetches(),
          .direct = stats.streaming && stats.direct,
          .allow_buffered = options.streaming.read.allow_buffered,
          .io = stats.streaming ? stats.io : "none",
          .policy = stats.policy,
          .cache_bytes = stats.streaming
                             ? static_cast<uint64_t>(stats.capacity) * inventory.layout.record_bytes
                             : 0};
}

}  // namespace

RunnableModel LoadRunnable(LoadPlan plan, LoadProgress* progress) {
  const std::optional<ExpertInventory>& inventory = plan.inventory;
  if (progress != nullptr) {
    progress->bytes_total.store(plan.memory.weight_bytes + ExpertBytesToLoad(plan));
  }
  RunnableModel runnable;
  runnable.checkpoint = std::move(plan.checkpoint);
  runnable.plan = std::move(plan.memory);
  const ModelOptions& options = runnable.plan.options;
  runnable.budget = std::make_unique<MemoryBudget>(options.ceiling_bytes);
  MemoryBudget& budget = *runnable.budget;
  // The ceiling is the process's, so what is not in buffers counts too.
  for (const char* owner : {"process", "grammars"}) {
    if (const uint64_t bytes = runnable.plan.Of(owner); bytes > 0) {
      budget.Book(owner, bytes);
    }
  }

  const auto on_bytes = [progress](uint64_t bytes) {
    if (progress != nullptr) {
      progress->bytes_done.fetch_add(bytes);
    }
  };
  runnable.backend = backend::MakeCpuBackend(budget, options.cpu);
  runnable.backend->ReserveActivations(runnable.plan.activation_bytes);
  if (inventory) {
    // First, because a bad sidecar or a disk without direct reads shows itself here.
    runnable.experts = LoadExperts(*runnable.checkpoint, *inventory, options,
                                   runnable.backend->threads(), budget, on_bytes);
    runnable.serving = ServingOf(*runnable.experts, *runnable.backend, *inventory, options);
    if (progress != nullptr) {
      progress->bytes_total.store(runnable.plan.weight_bytes + progress->bytes_done.load());
    }
  }
  runnable.model = models::BuildModel({.checkpoint = *runnable.checkpoint,
                                       .backend = runnable.backend,
                                       .experts = runnable.experts.get(),
                                       .on_bytes = on_bytes});
  return runnable;
}

}  // namespace mach::loading
