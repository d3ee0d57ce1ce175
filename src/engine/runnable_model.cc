#include "engine/runnable_model.h"

#include <utility>

#include "backend/cpu/cpu_backend.h"
#include "base/log.h"
#include "models/loader.h"
#include "platform/machine_memory.h"

namespace mach::engine {
namespace {

// What loading will read, as its progress counts it.
uint64_t BytesToLoad(const RunnableModel& runnable, const std::optional<ExpertInventory>& inventory,
                     const ExpertOptions& options) {
  uint64_t bytes = runnable.plan.Of("weights");
  if (!inventory) {
    return bytes;
  }
  if (options.residency != Residency::kStreaming) {
    return bytes + inventory->TotalBytes();
  }
  std::error_code ignored;
  const bool warm = options.keep_heat && std::filesystem::exists(inventory->HeatFile(), ignored);
  return bytes + (warm ? runnable.plan.expert_bank_bytes : 0);
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

Error NoTokenizer(const std::filesystem::path& dir) {
  return {ErrorCode::kNotFound, "no tokenizer.json in " + dir.string(),
          "fetch the model's tokenizer.json into that directory"};
}

ServableCheckpoint OpenServable(const RunnableOptions& options) {
  ServableCheckpoint source;
  source.checkpoint = formats::Checkpoint::Open(options.checkpoint);
  source.experts = FindExperts(*source.checkpoint);
  RequireServable(*source.checkpoint, source.experts, options.experts.residency);
  if (!source.experts && !options.experts.trace_file.empty()) {
    throw Error(ErrorCode::kInvalidArgument, "--expert-trace " +
                                                 options.experts.trace_file.string() + ": " +
                                                 options.checkpoint.string() + " has no experts");
  }
  return source;
}

RunnableModel LoadRunnable(const RunnableOptions& options, MemoryBudget& budget,
                           LoadProgress* progress) {
  return LoadRunnable(OpenServable(options), options, budget, progress);
}

RunnableModel LoadRunnable(ServableCheckpoint source, const RunnableOptions& options,
                           MemoryBudget& budget, LoadProgress* progress) {
  RunnableModel runnable;
  runnable.checkpoint = std::move(source.checkpoint);
  const std::optional<ExpertInventory>& inventory = source.experts;
  runnable.plan = PlanMemory(*runnable.checkpoint, inventory,
                             {.experts = options.experts,
                              .threads = options.threads,
                              .max_context = options.max_context,
                              .prefill_chunk = options.prefill_chunk,
                              .ceiling_bytes = budget.ceiling_bytes(),
                              .available_bytes = ReadMachineMemory().available_bytes});
  if (budget.ceiling_bytes() > 0 && runnable.plan.total_bytes > budget.ceiling_bytes()) {
    LogWarning(
        "more memory may be needed than --memory-gb allows; such requests are refused or fail",
        {{"predicted_mib", runnable.plan.total_bytes >> 20},
         {"ceiling_mib", budget.ceiling_bytes() >> 20},
         {"context", runnable.plan.context}});
  }
  const int64_t own_context = models::ReadModelShape(*runnable.checkpoint).max_context;
  if (options.max_context == 0 && runnable.plan.max_context < own_context) {
    LogInfo("requests are limited to the context that memory has room for; --max-context overrides",
            {{"max_context", runnable.plan.max_context}, {"model_max_context", own_context}});
  }
  // The ceiling is the process's, so what is not in buffers counts too.
  budget.Take("process", runnable.plan.Of("process"));

  if (progress != nullptr) {
    progress->bytes_total.store(BytesToLoad(runnable, inventory, options.experts));
  }
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
        LoadExperts(*runnable.checkpoint, *inventory, options.experts,
                    runnable.plan.expert_bank_bytes, runnable.backend->threads(), budget, on_bytes);
    runnable.serving = ServingOf(*runnable.experts, *inventory, options.experts);
  }
  runnable.model = models::BuildModel({.checkpoint = *runnable.checkpoint,
                                       .backend = runnable.backend,
                                       .experts = runnable.experts.get(),
                                       .on_bytes = on_bytes});
  return runnable;
}

}  // namespace mach::engine
