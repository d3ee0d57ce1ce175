// What the user may say about loading a checkpoint. A value.
#pragma once

#include <cstdint>
#include <filesystem>

#include "loading/expert_loading.h"

namespace mach::loading {

struct RunnableOptions {
  std::filesystem::path checkpoint;  // a directory: Hugging Face, MLX or engine checkpoint
  int threads = 0;                   // 0 = physical cores
  int64_t max_context = 0;           // tokens; 0 = the model's own limit
  int64_t prefill_chunk = 0;         // tokens; 0 = chosen (memory_plan.h)
  uint64_t ceiling_bytes = 0;        // of the whole process: --memory-gb; 0 = none
  bool serves = false;               // clients come: what their requests take is planned for
  ExpertOptions experts;
};

}  // namespace mach::loading
