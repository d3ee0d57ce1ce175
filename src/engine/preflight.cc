#include "engine/preflight.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/shell.h"
#include "formats/manifest.h"
#include "platform/direct_reader.h"

namespace mach::engine {
namespace {

constexpr int64_t kLeastAdvisedContext = 4096;

Verdict Judge(const MemoryPlan& plan) {
  if (plan.limit_bytes == 0 || plan.total_bytes <= plan.target_bytes) {
    return Verdict::kFits;
  }
  return plan.total_bytes <= plan.limit_bytes ? Verdict::kTight : Verdict::kWontFit;
}

// In units of 1e9 bytes, to the byte: what a flag says must hold what the plan holds.
std::string Gigabytes(uint64_t bytes) {
  std::string decimals = std::to_string(1'000'000'000 + bytes % 1'000'000'000).substr(1);
  decimals.erase(decimals.find_last_not_of('0') + 1);
  return std::to_string(bytes / 1'000'000'000) + (decimals.empty() ? "" : "." + decimals);
}

std::string ServeCommand(const RunnableOptions& options, uint64_t ceiling_bytes,
                         const PathReport& path) {
  const MemoryPlan& plan = path.advised;
  std::string command = "mach serve " + ShellWord(options.checkpoint.string());
  command += path.name == "streaming"  ? " --streaming"
             : path.name == "resident" ? " --no-streaming"
                                       : " --backend openai";
  if (plan.expert_bank_bytes > 0) {
    command += " --expert-cache-gb " + Gigabytes(plan.expert_bank_bytes);
  }
  if (path.name == "streaming" && options.experts.allow_buffered) {
    command += " --allow-buffered-io";
  }
  command += " --max-context " + std::to_string(plan.context);
  if (path.name != "openai" || options.prefill_chunk > 0) {
    command += " --prefill-chunk " + std::to_string(plan.prefill_chunk);
  }
  if (ceiling_bytes > 0) {
    command += " --memory-gb " + Gigabytes(ceiling_bytes);
  }
  if (options.threads > 0) {
    command += " --threads " + std::to_string(options.threads);
  }
  return command;
}

class Checker {
 public:
  Checker(const RunnableOptions& options, uint64_t ceiling_bytes, const MachineMemory& machine)
      : options_(options),
        ceiling_bytes_(ceiling_bytes),
        machine_(machine),
        checkpoint_(formats::Checkpoint::Open(options.checkpoint)) {
    try {
      inventory_ = FindExperts(*checkpoint_);
    } catch (const Error& error) {
      expert_error_ = error;
    }
  }

  Preflight Run() {
    Preflight report;
    report.model_type = checkpoint_->model_type();
    if (const models::ArchInfo* arch = models::FindArch(report.model_type)) {
      report.arch = *arch;
    }
    report.quantisation = checkpoint_->QuantisationSummary();
    report.layers =
        static_cast<int32_t>(checkpoint_->config().OptionalInt("num_hidden_layers").value_or(0));
    report.experts = inventory_ ? inventory_->experts() : 0;
    report.file_bytes = checkpoint_->FileBytes();
    if (inventory_ && inventory_->sidecar) {
      report.file_bytes += inventory_->sidecar->TotalBytes();
    }
    report.machine = machine_;
    report.paths = {Check("streaming", Residency::kStreaming),
                    Check("resident", Residency::kResident), Check("openai", Residency::kAny)};
    return report;
  }

 private:
  bool Has(const char* name) const {
    std::error_code ignored;
    return std::filesystem::exists(checkpoint_->dir() / name, ignored);
  }

  PathReport Check(const std::string& name, Residency residency) {
    PathReport path;
    path.name = name;
    if (!Has("tokenizer.json")) {
      path.missing.emplace_back("tokenizer.json");
      path.reason = NoTokenizer(checkpoint_->dir()).Describe();
    }
    const bool has_sidecar = Has(formats::ExpertSidecar::kDirName);
    if (residency == Residency::kStreaming && !has_sidecar &&
        formats::FindMoeFamily(checkpoint_->model_type())) {
      path.missing.push_back(std::string(formats::ExpertSidecar::kDirName) + "/");
    }
    if (has_sidecar && !Has(formats::Manifest::kFileName)) {
      path.missing.emplace_back(formats::Manifest::kFileName);
    }
    try {
      if (expert_error_) {
        throw Error(*expert_error_);
      }
      RequireServable(*checkpoint_, inventory_, residency);
      if (residency == Residency::kStreaming) {
        RequireDirectReads(*inventory_->sidecar);
      }
      path.plan = Plan(residency, options_.experts.cache_bytes, options_.max_context);
    } catch (const Error& error) {
      path.reason = error.Describe();
      return path;
    }
    if (!path.missing.empty()) {
      return path;
    }
    path.runnable = true;
    path.verdict = Judge(path.plan);
    Advise(residency, path);
    return path;
  }

  // All layer files lie in one directory, so that one stands for all. Throws kUnsupported with the
  // way out.
  void RequireDirectReads(const formats::ExpertSidecar& sidecar) const {
    (void)OpenDirectReader({.files = {sidecar.PathOf(sidecar.moe_layers.front())},
                            .buffers = {},
                            .queue_depth = 1,
                            .engine = "pread",
                            .allow_buffered = options_.experts.allow_buffered});
  }

  MemoryPlan Plan(Residency residency, std::optional<uint64_t> cache_bytes, int64_t max_context) {
    PlanOptions plan{.experts = options_.experts,
                     .threads = options_.threads,
                     .max_context = max_context,
                     .prefill_chunk = options_.prefill_chunk,
                     .ceiling_bytes = ceiling_bytes_,
                     .available_bytes = machine_.available_bytes};
    plan.experts.residency = residency;
    plan.experts.cache_bytes = cache_bytes;
    return PlanMemory(*checkpoint_, inventory_, plan);
  }

  // What was asked for, if it fits; else with a bank that does, then with ever shorter contexts.
  void Advise(Residency residency, PathReport& path) {
    path.advised = path.plan;
    path.advised_verdict = path.verdict;
    if (path.verdict != Verdict::kFits && residency == Residency::kStreaming) {
      Consider(path, Plan(residency, std::nullopt, options_.max_context));
    }
    for (int64_t context = path.plan.context / 2;
         path.advised_verdict != Verdict::kFits && context >= kLeastAdvisedContext; context /= 2) {
      Consider(path, Plan(residency, std::nullopt, context));
    }
    path.advice = ServeCommand(options_, ceiling_bytes_, path);
  }

  static void Consider(PathReport& path, MemoryPlan plan) {
    const Verdict verdict = Judge(plan);
    if (verdict < path.advised_verdict) {
      path.advised = std::move(plan);
      path.advised_verdict = verdict;
    }
  }

  const RunnableOptions& options_;
  const uint64_t ceiling_bytes_;
  const MachineMemory machine_;
  std::unique_ptr<formats::Checkpoint> checkpoint_;
  std::optional<ExpertInventory> inventory_;
  std::optional<Error> expert_error_;
};

}  // namespace

std::string VerdictName(Verdict verdict) {
  switch (verdict) {
    case Verdict::kFits:
      return "fits";
    case Verdict::kTight:
      return "tight";
    case Verdict::kWontFit:
      break;
  }
  return "wont_fit";
}

std::optional<Verdict> Preflight::Best() const {
  std::optional<Verdict> best;
  for (const PathReport& path : paths) {
    if (path.runnable) {
      best = best ? std::min(*best, path.verdict) : path.verdict;
    }
  }
  return best;
}

Preflight RunPreflight(const RunnableOptions& options, uint64_t ceiling_bytes,
                       const MachineMemory& machine) {
  return Checker(options, ceiling_bytes, machine).Run();
}

}  // namespace mach::engine
