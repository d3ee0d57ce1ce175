// The flags that say how experts are kept in memory, shared by the commands that load a model.
#pragma once

#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "loading/model_options.h"

namespace mach::app {

class ResidencyFlags {
 public:
  // Registers all of them; `group` is their heading in --help, `neither` what is done without
  // --streaming and --no-streaming. `app` keeps references to this and to `options`.
  void Register(CLI::App& app, const std::string& group, loading::Residency neither,
                loading::ModelOptions& options);

  bool streaming() const { return streaming_; }
  bool no_streaming() const { return no_streaming_; }

  // Which residency was asked for. Throws kInvalidArgument for flags that contradict each other.
  loading::Residency Resolve() const;

 private:
  bool streaming_ = false;
  bool no_streaming_ = false;
  loading::Residency neither_ = loading::Residency::kAllInMemory;
  std::vector<const CLI::Option*> of_streaming_;  // mean nothing without it
};

}  // namespace mach::app
