#include "loading/preflight.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/error.h"
#include "base/gigabytes.h"
#include "base/shell.h"
#include "formats/journal.h"
#include "loading/served_text.h"
#include "platform/direct_reader.h"

namespace mach::loading {
namespace {

constexpr std::array<ServingPath, 3> kPaths = {ServingPath::kStreaming, ServingPath::kResident,
                                               ServingPath::kOpenAi};

Residency ResidencyOf(ServingPath path) {
  switch (path) {
    case ServingPath::kStreaming:
      return Residency::kStreaming;
    case ServingPath::kResident:
      return Residency::kResident;
    case ServingPath::kOpenAi:
      break;
  }
  return Residency::kAllInMemory;
}

std::string PathFlag(ServingPath path) {
  switch (path) {
    case ServingPath::kStreaming:
      return "--streaming";
    case ServingPath::kResident:
      return "--no-streaming";
    case ServingPath::kOpenAi:
      break;
  }
  return "--backend openai";
}

std::string ServeCommand(const ModelOptions& options, const PathReport& path) {
  const MemoryPlan& plan = path.advised;
  std::string command =
      "mach serve " + ShellWord(options.checkpoint.string()) + " " + PathFlag(path.path);
  if (plan.bank_bytes() > 0) {
    command += " --expert-cache-gb " + GigabytesExact(plan.bank_bytes());
  }
  if (path.path == ServingPath::kStreaming && options.streaming.read.allow_buffered) {
    command += " --allow-buffered-io";
  }
  command += " --max-context " + std::to_string(plan.context);
  if (path.path != ServingPath::kOpenAi || options.engine.prefill_chunk > 0) {
    command += " --prefill-chunk " + std::to_string(plan.prefill_chunk());
  }
  if (options.ceiling_bytes > 0) {
    command += " --memory-gb " + GigabytesExact(options.ceiling_bytes);
  }
  if (options.cpu.threads > 0) {
    command += " --threads " + std::to_string(options.cpu.threads);
  }
  return command;
}

// Files that mach.json lists and that are not there; none if it cannot be read either.
std::vector<std::string> MissingFiles(const std::filesystem::path& dir) {
  std::vector<std::string> missing;
  try {
    if (const auto journal = formats::Journal::Find(dir)) {
      for (const formats::JournalFile& file : journal->files) {
        std::error_code ignored;
        if (!std::filesystem::exists(dir / file.name, ignored)) {
          missing.push_back(file.name);
        }
      }
    }
  } catch (const Error&) {
    // That is what `error` of the report says already.
  }
  return missing;
}

Preflight Unopened(const std::filesystem::path& dir, const Error& error,
                   const MachineMemory& machine) {
  Preflight report;
  report.error = error;
  report.machine = machine;
  for (const ServingPath which : kPaths) {
    PathReport path;
    path.path = which;
    path.reason = error.Describe();
    path.missing = MissingFiles(dir);
    report.paths.push_back(std::move(path));
  }
  return report;
}

class Checker {
 public:
  Checker(std::unique_ptr<formats::Checkpoint> checkpoint, const ModelOptions& options,
          const MachineMemory& machine)
      : options_(options), machine_(machine), checkpoint_(std::move(checkpoint)) {
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
    report.left_out = LeftOut(*checkpoint_);
    report.machine = machine_;
    for (const ServingPath path : kPaths) {
      report.paths.push_back(Check(path));
    }
    return report;
  }

 private:
  bool Has(const char* name) const {
    std::error_code ignored;
    return std::filesystem::exists(checkpoint_->dir() / name, ignored);
  }

  PathReport Check(ServingPath which) {
    const Residency residency = ResidencyOf(which);
    PathReport path;
    path.path = which;
    if (!Has("tokenizer.json")) {
      path.missing.emplace_back("tokenizer.json");
      path.reason = NoTokenizer(checkpoint_->dir()).Describe();
    }
    const bool has_sidecar = Has(formats::ExpertSidecar::kDirName);
    if (residency == Residency::kStreaming && !has_sidecar &&
        formats::FindMoeFamily(checkpoint_->model_type())) {
      path.missing.push_back(std::string(formats::ExpertSidecar::kDirName) + "/");
    }
    if (has_sidecar && !Has(formats::Journal::kFileName)) {
      path.missing.emplace_back(formats::Journal::kFileName);
    }
    try {
      if (expert_error_) {
        throw Error(*expert_error_);
      }
      RequireServable(*checkpoint_, inventory_, residency);
      if (residency == Residency::kStreaming) {
        RequireDirectReads(*inventory_->sidecar);
      }
      path.plan = Plan(residency, options_.streaming.bank_bytes, options_.engine.max_context);
    } catch (const Error& error) {
      path.reason = error.Describe();
      return path;
    }
    if (!path.missing.empty()) {
      return path;
    }
    path.runnable = true;
    path.verdict = path.plan.Judge();
    Advise(residency, path);
    return path;
  }

  // All layer files lie in one directory, so that one stands for all. Throws kUnsupported with the
  // way out.
  void RequireDirectReads(const formats::ExpertSidecar& sidecar) const {
    (void)OpenDirectReader({.files = {sidecar.PathOf(sidecar.moe_layers.front())},
                            .buffers = {},
                            .how = {.engine = "pread",
                                    .queue_depth = 1,
                                    .allow_buffered = options_.streaming.read.allow_buffered}});
  }

  // `bank_bytes` 0: of whatever size fits.
  MemoryPlan Plan(Residency residency, uint64_t bank_bytes, int64_t max_context) {
    ModelOptions options = options_;
    options.engine.max_context = max_context;
    options.residency = residency;
    options.streaming.bank_bytes = bank_bytes;
    return PlanMemory(*checkpoint_, inventory_, options, machine_.available_bytes);
  }

  // What was asked for, if it fits; else with a bank that does, then with ever shorter contexts.
  void Advise(Residency residency, PathReport& path) {
    path.advised = path.plan;
    path.advised_verdict = path.verdict;
    if (path.verdict != Verdict::kFits && residency == Residency::kStreaming) {
      Consider(path, Plan(residency, 0, options_.engine.max_context));
    }
    for (int64_t context = path.plan.context / 2;
         path.advised_verdict != Verdict::kFits && context >= kLeastContext; context /= 2) {
      Consider(path, Plan(residency, 0, context));
    }
    if (path.advised_verdict != Verdict::kWontFit) {
      path.advice = ServeCommand(options_, path);
    }
  }

  static void Consider(PathReport& path, MemoryPlan plan) {
    const Verdict verdict = plan.Judge();
    const bool less = verdict == Verdict::kWontFit && path.advised_verdict == verdict &&
                      plan.least_bytes < path.advised.least_bytes;
    if (verdict < path.advised_verdict || less) {
      path.advised = std::move(plan);
      path.advised_verdict = verdict;
    }
  }

  const ModelOptions& options_;
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

Preflight RunPreflight(const ModelOptions& options, const MachineMemory& machine) {
  std::unique_ptr<formats::Checkpoint> checkpoint;
  try {
    checkpoint = formats::Checkpoint::Open(options.checkpoint);
  } catch (const Error& error) {
    std::error_code ignored;
    if (!std::filesystem::exists(options.checkpoint / "config.json", ignored)) {
      throw;
    }
    return Unopened(options.checkpoint, error, machine);
  }
  return Checker(std::move(checkpoint), options, machine).Run();
}

}  // namespace mach::loading
