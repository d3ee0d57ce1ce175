// The experts of a Mixture-of-Experts checkpoint, before there is a model: what its headers say
// about them (ExpertInventory), whether they can be served as asked, what memory they will take,
// and how an ExpertStore is made of them, resident or streamed. Called by whoever plans or loads;
// one thread.
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
#include "loading/model_options.h"
#include "tensor/memory.h"

namespace mach::loading {

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

// Sets those of options.streaming that follow from the checkpoint.
void CompleteStreaming(const ExpertInventory& inventory, ModelOptions& options);

// What LoadExperts will book, by owner. Throws kInvalidArgument if the bank is too small.
std::map<std::string, uint64_t> ExpertBytes(const ExpertInventory& inventory,
                                            const ModelOptions& options);

// `options` as planned. `progress` gets the bytes of each step. `threads`: how many pack records
// when there is no sidecar. Blocks; throws as the stores do (experts/expert_store.h).
std::unique_ptr<experts::ExpertStore> LoadExperts(const formats::Checkpoint& checkpoint,
                                                  const ExpertInventory& inventory,
                                                  const ModelOptions& options, int threads,
                                                  MemoryBudget& budget,
                                                  const std::function<void(uint64_t)>& progress);

}  // namespace mach::loading
