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
  const ExpertOptions& options = plan.options.experts;
  if (options.residency != Residency::kStreaming) {
    return plan.inventory->TotalBytes();
  }
  std::error_code ignored;
  const bool warm =
      options.keep_heat && std::filesystem::exists(plan.inventory->HeatFile(), ignored);
  return warm ? plan.memory.streaming.bank_bytes : 0;
}

ExpertServing ServingOf(const experts::ExpertStore& store, const ExpertInventory& inventory,
                        const ExpertOptions& options) {
  const experts::ExpertStats stats = store.Stats();
  return {.streaming = stats.streaming,
          .sidecar_present = inventory.sidecar.has_value(),
          .transient_prefill = stats.streaming,
          .prefetch = store.prefetches(),
          .direct = stats.streaming && stats.direct,
          .allow_buffered = options.allow_buffered,
          .io = stats.streaming ? stats.io : "none",
          .policy = stats.policy,
          .cache_bytes = stats.streaming
                             ? static_cast<uint64_t>(stats.capacity) * inventory.layout.record_bytes
                             : 0};
}

}  // namespace

RunnableModel LoadRunnable(LoadPlan plan, LoadProgress* progress) {
  const RunnableOptions& options = plan.options;
  const std::optional<ExpertInventory>& inventory = plan.inventory;
  if (progress != nullptr) {
    progress->bytes_total.store(plan.memory.weight_bytes + ExpertBytesToLoad(plan));
  }
  RunnableModel runnable;
  runnable.budget = std::make_unique<MemoryBudget>(options.ceiling_bytes);
  runnable.checkpoint = std::move(plan.checkpoint);
  runnable.plan = std::move(plan.memory);
  MemoryBudget& budget = *runnable.budget;
  // The ceiling is the process's, so what is not in buffers counts too.
  budget.Take("process", runnable.plan.Of("process"));

  const auto on_bytes = [progress](uint64_t bytes) {
    if (progress != nullptr) {
      progress->bytes_done.fetch_add(bytes);
    }
  };
  runnable.backend = backend::MakeCpuBackend(budget, {.threads = options.threads});
  runnable.backend->ReserveActivations(runnable.plan.activation_bytes);
  if (inventory) {
    // First, because a bad sidecar or a disk without direct reads shows itself here.
    runnable.experts =
        LoadExperts(*runnable.checkpoint, *inventory, options.experts, runnable.plan.streaming,
                    runnable.backend->threads(), budget, on_bytes);
    runnable.serving = ServingOf(*runnable.experts, *inventory, options.experts);
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
