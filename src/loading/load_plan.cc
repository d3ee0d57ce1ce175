#include "loading/load_plan.h"

#include <string>

#include "base/error.h"
#include "base/gigabytes.h"
#include "base/log.h"
#include "base/shell.h"
#include "loading/served_text.h"
#include "platform/machine_memory.h"

namespace mach::loading {
namespace {

// Without a ceiling, what is available is the limit. With one, the user knows better: memory may
// become free, or be swapped.
void RequireRoom(const LoadPlan& plan, uint64_t available_bytes) {
  const ModelOptions& options = plan.memory.options;
  const uint64_t ceiling_bytes = options.ceiling_bytes;
  const uint64_t limit = ceiling_bytes > 0 ? ceiling_bytes : available_bytes;
  const uint64_t least = plan.memory.least_bytes;
  if (limit == 0 || least <= limit) {
    return;
  }
  const std::string dir = plan.checkpoint->dir().string();
  const std::string check = "`mach check " + ShellWord(dir) +
                            (ceiling_bytes > 0 ? " --memory-gb " + GigabytesExact(limit) : "") +
                            "` prints what would fit";
  throw Error(ErrorCode::kResourceLimit,
              dir +
                  (options.residency == Residency::kStreaming
                       ? " with its experts streamed (a bank of " +
                             GigabytesText(plan.memory.bank_bytes()) + ")"
                   : plan.inventory ? " with all experts resident"
                                    : "") +
                  " needs at least " + GigabytesText(least) + " of memory, and " +
                  (ceiling_bytes > 0 ? "--memory-gb allows " + GigabytesText(limit)
                                     : GigabytesText(limit) + " are available"),
              ceiling_bytes > 0
                  ? check
                  : check + "; --memory-gb with a larger value loads it all the same");
}

void ReportContext(const MemoryPlan& memory, int64_t asked_tokens) {
  if (asked_tokens > 0) {
    if (memory.Judge() == Verdict::kWontFit) {
      LogWarning("requests near --max-context need more memory than there is",
                 {{"predicted_mib", memory.total_bytes >> 20},
                  {"limit_mib", memory.limit_bytes >> 20},
                  {"max_context", memory.max_context()}});
    }
  } else if (memory.max_context() < memory.model_context) {
    LogInfo("requests are limited to the context that memory has room for; --max-context overrides",
            {{"max_context", memory.max_context()}, {"model_max_context", memory.model_context}});
  }
}

}  // namespace

LoadPlan PlanLoading(ModelOptions options) {
  LoadPlan plan;
  plan.checkpoint = formats::Checkpoint::Open(options.checkpoint);
  plan.inventory = FindExperts(*plan.checkpoint);
  RequireServable(*plan.checkpoint, plan.inventory, options.residency);
  if (!plan.inventory && !options.trace_file.empty()) {
    throw Error(ErrorCode::kInvalidArgument, "--expert-trace " + options.trace_file.string() +
                                                 ": " + options.checkpoint.string() +
                                                 " has no experts");
  }
  const uint64_t available_bytes = ReadMachineMemory().available_bytes;
  const auto plan_memory = [&] {
    return PlanMemory(*plan.checkpoint, plan.inventory, options, available_bytes);
  };
  const bool if_fitting = options.residency == Residency::kFitting;
  options.residency = if_fitting ? Residency::kAllInMemory : options.residency;
  plan.memory = plan_memory();
  if (if_fitting && plan.memory.Judge() != Verdict::kFits && plan.inventory &&
      plan.inventory->sidecar) {
    options.residency = Residency::kStreaming;
    plan.memory = plan_memory();
  }
  RequireRoom(plan, available_bytes);
  ReportContext(plan.memory, options.engine.max_context);
  for (const auto& [reason, tensors] : LeftOut(*plan.checkpoint)) {
    LogInfo("tensors left out", {{"reason", reason}, {"tensors", tensors}});
  }
  return plan;
}

void RequireLoadable(const std::filesystem::path& dir) {
  const auto checkpoint = formats::Checkpoint::Open(dir);
  const auto inventory = FindExperts(*checkpoint);
  const ModelOptions options{.checkpoint = dir};
  RequireServable(*checkpoint, inventory, options.residency);
  (void)PlanMemory(*checkpoint, inventory, options, 0);
  std::error_code ignored;
  if (!std::filesystem::exists(dir / "tokenizer.json", ignored)) {
    return;  // which the converter has said already
  }
  try {
    (void)LoadText(*checkpoint);
  } catch (const Error& error) {
    LogWarning("`mach serve` will refuse what was written", {{"reason", error.Describe()}});
  }
}

std::map<std::string, int64_t> LeftOut(const formats::Checkpoint& checkpoint) {
  std::map<std::string, int64_t> tensors;
  if (formats::FindMoeFamily(checkpoint.model_type())) {
    for (const std::string& name : checkpoint.TensorNames()) {
      const std::string reason = formats::SkippedTensorReason(name);
      if (!reason.empty()) {
        ++tensors[reason];
      }
    }
  }
  return tensors;
}

}  // namespace mach::loading
