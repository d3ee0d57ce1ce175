// All that may be said about loading a model and running it. The flags fill it in, the memory plan
// decides what they left open (memory_plan.h), and each part goes as it is to what it is for. So a
// new choice is a flag in app/, a field here or in the part it belongs to, and its use. A value.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "backend/cpu/cpu_backend.h"
#include "engine/local_engine.h"
#include "experts/expert_store.h"
#include "loading/served_text.h"

namespace mach::loading {

enum class Residency {
  kAllInMemory,  // whatever the checkpoint is made of; dense models too
  kFitting,      // kAllInMemory where that fits; else kStreaming, if there is a sidecar
  kStreaming,    // a bounded bank over the expert sidecar
  kResident,     // all resident, Mixture-of-Experts checkpoints only
};

struct ModelOptions {
  std::filesystem::path checkpoint;  // a directory: Hugging Face, MLX or engine checkpoint
  std::string served_name;           // the model id clients see; empty = the directory's name
  uint64_t ceiling_bytes = 0;        // of the whole process: --memory-gb; 0 = none
  bool serves = false;               // clients come: what their requests take is planned for
  Residency residency = Residency::kAllInMemory;
  FormatChoice chat_formats;         // how its chats mark calls and reasoning
  bool keep_heat = true;             // load and save the heat map of streamed experts
  bool observe_routing = false;      // count it (experts/routing_stats.h)
  std::filesystem::path trace_file;  // gets the ids of every decode step; empty: none

  backend::CpuOptions cpu;
  // In the next two, 0 bytes and 0 tokens are for the plan to choose. The model's end tokens come
  // from its text side (served_text.h).
  experts::StreamOptions streaming;
  engine::LocalEngineOptions engine;
};

}  // namespace mach::loading
