// The experts of a Mixture-of-Experts checkpoint: what its headers say about them, and the way from
// there to an ExpertStore, resident or streamed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "experts/expert_store.h"
#include "formats/checkpoint.h"
#include "formats/expert_sidecar.h"
#include "formats/moe_layout.h"
#include "tensor/memory.h"

namespace mach::loading {

enum class Residency {
  kAllInMemory,  // whatever the checkpoint is made of; dense models too
  kFitting,      // kAllInMemory where that fits; else kStreaming, if there is a sidecar
  kStreaming,    // a bounded bank over the expert sidecar
  kResident,     // all resident, Mixture-of-Experts checkpoints only
};

struct ExpertOptions {
  Residency residency = Residency::kAllInMemory;
  std::optional<uint64_t> cache_bytes;  // of the streamed bank; unset = chosen (memory_plan.h)
  std::optional<bool> prefetch;         // unset = the store's default
  std::string policy;                   // empty = the store's default
  std::string io = "auto";              // "io_uring", "pread"
  bool allow_buffered = false;          // where the file system refuses direct reads
  bool keep_heat = true;                // load and save the heat map
  bool observe_routing = false;         // count it (experts/routing_stats.h)
  std::filesystem::path trace_file;     // gets the ids of every decode step; empty: none
  OpenReader open_reader = OpenDirectReader;
};

// What a checkpoint's headers say about its experts.
struct ExpertInventory {
  formats::MoeLayout moe;
  ExpertLayout layout;
  int32_t top_k = 0;                              // experts that one token uses in a layer
  std::vector<int32_t> moe_layers;                // ascending
  std::optional<formats::ExpertSidecar> sidecar;  // else they are in the safetensors

  int32_t experts() const { return moe.experts.experts; }
  uint64_t TotalBytes() const {
    return moe_layers.size() * static_cast<uint64_t>(experts()) * layout.record_bytes;
  }
  std::filesystem::path HeatFile() const { return sidecar->dir / "heat.bin"; }
};

// Nothing for dense architectures. Throws mach::Error naming file or tensor if the experts that
// config.json speaks of are missing, differ between layers, or the sidecar is not sound.
std::optional<ExpertInventory> FindExperts(const formats::Checkpoint& checkpoint);

// Throws kUnsupported or kNotFound, with the command that helps, if the checkpoint cannot be served
// that way.
void RequireServable(const formats::Checkpoint& checkpoint,
                     const std::optional<ExpertInventory>& inventory, Residency residency);

// What a streamed store may take (experts/expert_store.h).
struct StreamMemory {
  uint64_t bank_bytes = 0;
  uint64_t arena_bytes = 0;  // 0 = by the size of the bank
};

experts::StreamOptions MakeStreamOptions(const ExpertInventory& inventory,
                                         const ExpertOptions& options, const StreamMemory& memory);

// What LoadExperts will book, by owner. Throws kInvalidArgument if the bank is too small.
std::map<std::string, uint64_t> ExpertBytes(const ExpertInventory& inventory,
                                            const ExpertOptions& options,
                                            const StreamMemory& memory);

// `progress` gets the bytes of each step. `threads`: how many pack records when there is no
// sidecar. Blocks; throws as the stores do (experts/expert_store.h).
std::unique_ptr<experts::ExpertStore> LoadExperts(const formats::Checkpoint& checkpoint,
                                                  const ExpertInventory& inventory,
                                                  const ExpertOptions& options,
                                                  const StreamMemory& memory, int threads,
                                                  MemoryBudget& budget,
                                                  const std::function<void(uint64_t)>& progress);

}  // namespace mach::loading
