// Whether and how a checkpoint can be served on this machine, from its headers alone: what
// `mach check` reports. Uses the code that loads (expert_loading.h, memory_plan.h).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "loading/load_plan.h"
#include "loading/serving_path.h"
#include "models/registry.h"
#include "platform/machine_memory.h"

namespace mach::loading {

// "fits", "tight", "wont_fit".
std::string VerdictName(Verdict verdict);

// One way to serve it.
struct PathReport {
  ServingPath path = ServingPath::kStreaming;
  bool runnable = false;
  std::string reason;                // why it is not runnable
  std::vector<std::string> missing;  // files that it needs and that are not there
  // The rest only if it is runnable.
  MemoryPlan plan;  // with the options given
  Verdict verdict = Verdict::kWontFit;
  // The command that serves it here, with a smaller bank or context where those given do not fit;
  // empty if nothing does.
  std::string advice;
  MemoryPlan advised;
  Verdict advised_verdict = Verdict::kWontFit;
};

struct Preflight {
  // Why nothing but the paths' reasons and missing files is known: it does not open as a
  // checkpoint.
  std::optional<Error> error;
  std::string model_type;
  std::optional<models::ArchInfo> arch;
  std::string quantisation;
  int32_t layers = 0;
  int32_t experts = 0;
  uint64_t file_bytes = 0;                  // weights and sidecar
  std::map<std::string, int64_t> left_out;  // tensors that are not of the language model, by reason
  MachineMemory machine;
  std::vector<PathReport> paths;  // each ServingPath, in its order

  const PathReport& Of(ServingPath path) const { return paths[static_cast<size_t>(path)]; }
  // The best verdict of the paths that can run; nothing if none can.
  std::optional<Verdict> Best() const;
};

// `options.residency` is ignored: all are tried. Throws kNotFound if the directory holds no
// model at all.
Preflight RunPreflight(const ModelOptions& options, const MachineMemory& machine);

}  // namespace mach::loading
