#include "loading/expert_loading.h"

#include <map>
#include <utility>

#include "base/error.h"
#include "base/shell.h"
#include "formats/expert_tensors.h"
#include "formats/pack_expert.h"
#include "models/loader.h"
#include "models/registry.h"
#include "platform/thread_pool.h"

namespace mach::loading {
namespace {

std::string ConvertCommand(const formats::Checkpoint& checkpoint) {
  return "`mach convert " + ShellWord(checkpoint.dir().string()) + " --out DIR` writes one";
}

// How far a store has come, as steps.
std::function<void(uint64_t)> InSteps(const std::function<void(uint64_t)>& progress) {
  if (!progress) {
    return {};
  }
  return [progress, before = uint64_t{0}](uint64_t so_far) mutable {
    progress(so_far - std::exchange(before, so_far));
  };
}

formats::ExpertTensors RequireTensors(const formats::Checkpoint& checkpoint,
                                      const formats::MoeLayout& moe, int32_t layer) {
  const std::string module = moe.MlpModule(layer);
  auto tensors = formats::ExpertTensors::Find(checkpoint, module, moe.experts);
  if (!tensors) {
    throw Error(ErrorCode::kNotFound,
                checkpoint.dir().string() + " has no experts for " + module +
                    ": neither tensors nor an expert_sidecar/",
                "fetch or convert the whole model again");
  }
  return *std::move(tensors);
}

// Packs an expert into its record and lets go of what was read.
void WriteRecord(const formats::Checkpoint& checkpoint, const formats::ExpertTensors& tensors,
                 const ExpertLayout& layout, int32_t expert, std::span<std::byte> record) {
  const formats::ExpertMatrices source = tensors.Source(expert);
  ThreadPool alone(1);  // records are packed side by side
  formats::PackExpert(source, layout, record, alone);
  for (const formats::LinearSource* part : {&source.gate, &source.up, &source.down}) {
    checkpoint.Drop(*part);
  }
}

}  // namespace

std::optional<ExpertInventory> FindExperts(const formats::Checkpoint& checkpoint) {
  if (!formats::FindMoeFamily(checkpoint.model_type())) {
    return std::nullopt;
  }
  ExpertInventory inventory;
  inventory.moe = formats::MoeLayout::Of(checkpoint);
  for (int32_t layer = 0; layer < inventory.moe.layers; ++layer) {
    if (inventory.moe.is_moe[static_cast<size_t>(layer)]) {
      inventory.moe_layers.push_back(layer);
    }
  }
  if (inventory.moe_layers.empty()) {
    return std::nullopt;
  }
  inventory.top_k = models::ReadModelShape(checkpoint).experts_per_token;
  inventory.sidecar = formats::ExpertSidecar::Find(checkpoint.dir());
  if (inventory.sidecar) {
    const formats::ExpertSidecar& sidecar = *inventory.sidecar;
    std::vector<int32_t> layers;
    for (const formats::SidecarLayer& layer : sidecar.moe_layers) {
      layers.push_back(layer.layer);
    }
    if (sidecar.layers != inventory.moe.layers || sidecar.experts != inventory.experts() ||
        layers != inventory.moe_layers) {
      throw Error(ErrorCode::kCorruptFile,
                  (sidecar.dir / formats::ExpertSidecar::kManifestName).string() +
                      " is of another model: expected " + std::to_string(inventory.moe.layers) +
                      " layers, " + std::to_string(inventory.moe_layers.size()) + " of them with " +
                      std::to_string(inventory.experts()) + " experts, found " +
                      std::to_string(sidecar.layers) + ", " + std::to_string(layers.size()) +
                      " with " + std::to_string(sidecar.experts),
                  sidecar.cure);
    }
    inventory.layout = sidecar.layout;
    return inventory;
  }
  for (const int32_t layer : inventory.moe_layers) {
    const ExpertLayout layout = RequireTensors(checkpoint, inventory.moe, layer).Layout();
    if (layer == inventory.moe_layers.front()) {
      inventory.layout = layout;
    } else if (!(layout == inventory.layout)) {
      throw Error(ErrorCode::kUnsupported,
                  checkpoint.dir().string() + ": the experts of " + inventory.moe.MlpModule(layer) +
                      " are quantised otherwise than those of " +
                      inventory.moe.MlpModule(inventory.moe_layers.front()),
                  "convert the model with one number of bits for all experts");
    }
  }
  return inventory;
}

void RequireServable(const formats::Checkpoint& checkpoint,
                     const std::optional<ExpertInventory>& inventory, Residency residency) {
  const std::string dir = checkpoint.dir().string();
  const models::ArchInfo* arch = models::FindArch(checkpoint.model_type());
  if (arch == nullptr) {
    throw Error(ErrorCode::kUnsupported,
                (checkpoint.dir() / "config.json").string() + ": model_type is \"" +
                    checkpoint.model_type() + "\", which this build cannot serve",
                "`mach archs` lists what can be served");
  }
  if (residency == Residency::kAllInMemory || residency == Residency::kFitting) {
    return;
  }
  if (!inventory) {
    throw Error(ErrorCode::kUnsupported,
                std::string(residency == Residency::kStreaming ? "--streaming" : "--no-streaming") +
                    " serves Mixture-of-Experts checkpoints, and " + dir + " is dense (" +
                    checkpoint.model_type() + ")",
                "serve it with --backend openai");
  }
  if (residency == Residency::kStreaming && !inventory->sidecar) {
    throw Error(ErrorCode::kNotFound,
                "--streaming needs an expert sidecar: expected " +
                    (checkpoint.dir() / formats::ExpertSidecar::kDirName).string() +
                    "/manifest.json, found none",
                ConvertCommand(checkpoint));
  }
}

void CompleteStreaming(const ExpertInventory& inventory, ModelOptions& options) {
  options.streaming.top_k = inventory.top_k;
  options.streaming.heat_file = options.keep_heat ? inventory.HeatFile() : "";
}

std::map<std::string, uint64_t> ExpertBytes(const ExpertInventory& inventory,
                                            const ModelOptions& options) {
  const uint64_t record_bytes = inventory.layout.record_bytes;
  const auto booked = [record_bytes](int64_t records) {
    return Buffer::BookedBytes(static_cast<uint64_t>(records) * record_bytes);
  };
  if (options.residency == Residency::kStreaming) {
    const experts::StreamOptions& streaming = options.streaming;
    return {{"expert_bank", booked(experts::BankRecords(*inventory.sidecar, streaming))},
            {"expert_arena", booked(experts::ArenaRecords(*inventory.sidecar, streaming))}};
  }
  return {
      {"experts", booked(static_cast<int64_t>(inventory.moe_layers.size()) * inventory.experts())}};
}

namespace {

std::unique_ptr<experts::ExpertStore> MakeStore(const formats::Checkpoint& checkpoint,
                                                const ExpertInventory& inventory,
                                                const ModelOptions& options, int threads,
                                                MemoryBudget& budget,
                                                const std::function<void(uint64_t)>& progress) {
  if (options.residency == Residency::kStreaming) {
    return experts::MakeStreamedStore(*inventory.sidecar, options.streaming, budget,
                                      InSteps(progress));
  }
  if (inventory.sidecar) {
    return experts::MakeResidentStore(*inventory.sidecar, budget, InSteps(progress),
                                      options.streaming.open_reader);
  }
  std::map<int32_t, formats::ExpertTensors> tensors;
  for (const int32_t layer : inventory.moe_layers) {
    tensors.emplace(layer, RequireTensors(checkpoint, inventory.moe, layer));
  }
  return experts::MakeResidentStore(
      inventory.layout, inventory.moe.layers, inventory.moe_layers, inventory.experts(), threads,
      budget, [&](int32_t layer, int32_t expert, std::span<std::byte> record) {
        WriteRecord(checkpoint, tensors.at(layer), inventory.layout, expert, record);
        if (progress) {
          progress(record.size());
        }
      });
}

}  // namespace

std::unique_ptr<experts::ExpertStore> LoadExperts(const formats::Checkpoint& checkpoint,
                                                  const ExpertInventory& inventory,
                                                  const ModelOptions& options, int threads,
                                                  MemoryBudget& budget,
                                                  const std::function<void(uint64_t)>& progress) {
  std::optional<experts::TraceWriter> trace;  // first: a bad path shows itself before loading
  if (!options.trace_file.empty()) {
    trace.emplace(options.trace_file,
                  experts::CacheShape{static_cast<int32_t>(inventory.moe_layers.size()),
                                      inventory.experts()});
  }
  auto store = MakeStore(checkpoint, inventory, options, threads, budget, progress);
  if (options.observe_routing || trace) {
    return experts::MakeObservedStore(std::move(store), inventory.moe_layers, std::move(trace));
  }
  return store;
}

}  // namespace mach::loading
