// The flags that say how experts are kept in memory, shared by the commands that load a model.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <CLI/CLI.hpp>

#include "loading/runnable_options.h"

namespace mach::app {

struct ResidencyFlags {
  bool streaming = false;
  bool no_streaming = false;
  std::optional<double> expert_cache_gb;
  std::optional<bool> expert_prefetch;
  std::string expert_policy;
  std::optional<std::string> io;
  bool allow_buffered_io = false;
  std::string expert_trace;
  int64_t prefill_chunk = 0;
  loading::Residency neither = loading::Residency::kAllInMemory;

  // Registers all of them; `group` is their heading in --help, `when_neither` what is done without
  // --streaming and --no-streaming. `app` keeps references to this.
  void Register(CLI::App& app, const std::string& group, loading::Residency when_neither);

  // Throws kInvalidArgument for flags that contradict each other.
  void Apply(loading::RunnableOptions& options) const;
};

}  // namespace mach::app
