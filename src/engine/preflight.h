// Whether and how a checkpoint can be served on this machine, from its headers alone: what
// `mach check` reports. Uses the code that loads (expert_loading.h, memory_plan.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/memory_plan.h"
#include "engine/runnable_model.h"
#include "models/registry.h"
#include "platform/machine_memory.h"

namespace mach::engine {

enum class Verdict { kFits, kTight, kWontFit };

// "fits", "tight", "wont_fit".
std::string VerdictName(Verdict verdict);

// One way to serve it.
struct PathReport {
  std::string name;  // "streaming", "resident", "openai"
  bool runnable = false;
  std::string reason;                // why it is not runnable
  std::vector<std::string> missing;  // files that it needs and that are not there
  // The rest only if it is runnable.
  MemoryPlan plan;  // with the options given
  Verdict verdict = Verdict::kWontFit;
  // The command that serves it here, with a smaller bank or context where those given do not fit.
  std::string advice;
  MemoryPlan advised;
  Verdict advised_verdict = Verdict::kWontFit;
};

struct Preflight {
  std::string model_type;
  std::optional<models::ArchInfo> arch;
  std::string quantisation;
  int32_t layers = 0;
  int32_t experts = 0;
  uint64_t file_bytes = 0;  // weights and sidecar
  MachineMemory machine;
  std::vector<PathReport> paths;

  // The best verdict of the paths that can run; nothing if none can.
  std::optional<Verdict> Best() const;
};

// `options.experts.residency` is ignored: all are tried. Throws mach::Error if the directory is no
// readable checkpoint.
Preflight RunPreflight(const RunnableOptions& options, uint64_t ceiling_bytes,
                       const MachineMemory& machine);

}  // namespace mach::engine
