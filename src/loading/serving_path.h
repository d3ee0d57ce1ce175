// The ways to serve a checkpoint, and how each of them chooses tokens. Values; any thread.
#pragma once

#include <string>

#include "loading/model_options.h"

namespace mach::loading {

enum class ServingPath {
  kStreaming,  // --streaming
  kResident,   // --no-streaming
  kOpenAi,     // --backend openai: whatever the checkpoint is made of, dense models too
};

// "streaming", "resident", "openai".
std::string ServingPathName(ServingPath path);

// `residency` as planned, so never kFitting.
ServingPath PathOf(Residency residency);

// How tokens are chosen: what was asked for, what is done, and why.
struct DecodePath {
  std::string configured = "target-only";
  std::string effective = "target_only";
  std::string reason;
  std::string block_policy = "none";  // how many tokens are drafted at a time
};

DecodePath DecodePathOf(ServingPath path);

}  // namespace mach::loading
