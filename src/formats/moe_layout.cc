#include "formats/moe_layout.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "formats/module_names.h"

namespace mach::formats {
namespace {

constexpr int64_t kMaxLayers = 4096;

struct FamilyName {
  std::string_view model_type;
  MoeFamily family;
};

// The first row of a family is its own name.
constexpr std::array<FamilyName, 3> kFamilyNames = {{
    {"qwen3_moe", MoeFamily::kQwen3Moe},
    {"qwen3_5_moe", MoeFamily::kQwen35Moe},
    {"qwen3_5_moe_text", MoeFamily::kQwen35Moe},
}};

std::string FindPrefix(const Checkpoint& checkpoint) {
  for (const std::string_view prefix : kModelPrefixes) {
    if (checkpoint.Has(std::string(prefix) + "embed_tokens.weight")) {
      return std::string(prefix);
    }
  }
  throw Error(ErrorCode::kNotFound,
              "tensor embed_tokens.weight is missing in " + checkpoint.dir().string() + "; a " +
                  checkpoint.model_type() +
                  " model has it under model.language_model., language_model.model. or model.",
              kFetchModelAgain);
}

std::string FindHead(const Checkpoint& checkpoint, const std::string& prefix) {
  std::string usual = prefix == "language_model.model." ? "language_model.lm_head" : "lm_head";
  for (const char* other : {"language_model.lm_head", "lm_head"}) {
    if (!checkpoint.Has(usual + ".weight") && checkpoint.Has(std::string(other) + ".weight")) {
      return other;
    }
  }
  return usual;
}

std::vector<bool> FullAttentionLayers(const ConfigReader& config, int32_t layers) {
  const auto types = config.OptionalStringArray("layer_types");
  std::vector<bool> full;
  full.reserve(static_cast<size_t>(layers));
  if (!types) {
    const int64_t interval = config.IntOr("full_attention_interval", 4, 1, kMaxLayers);
    for (int32_t layer = 0; layer < layers; ++layer) {
      full.push_back((layer + 1) % interval == 0);
    }
    return full;
  }
  if (types->size() != static_cast<size_t>(layers)) {
    config.Fail("layer_types", "one entry for each of " + std::to_string(layers) + " layers");
  }
  for (const std::string& type : *types) {
    if (type != "full_attention" && type != "linear_attention") {
      config.Fail("layer_types", "entries \"full_attention\" or \"linear_attention\"");
    }
    full.push_back(type == "full_attention");
  }
  return full;
}

std::vector<bool> MoeLayers(const ConfigReader& config, int32_t layers) {
  const auto dense =
      config.OptionalIntArray("mlp_only_layers", 0, kMaxLayers).value_or(std::vector<int64_t>());
  const int64_t step = config.IntOr("decoder_sparse_step", 1, 1, kMaxLayers);
  std::vector<bool> moe;
  moe.reserve(static_cast<size_t>(layers));
  for (int32_t layer = 0; layer < layers; ++layer) {
    moe.push_back((layer + 1) % step == 0 &&
                  std::find(dense.begin(), dense.end(), layer) == dense.end());
  }
  return moe;
}

// transformers 5 saves the field of qwen3_moe under the name that other families give it.
int32_t ExpertCount(const ConfigReader& config) {
  constexpr int64_t kMaxExperts = 1 << 16;
  const auto usual = config.OptionalInt("num_experts", 1, kMaxExperts);
  const auto other = config.OptionalInt("num_local_experts", 1, kMaxExperts);
  if (usual && other && *usual != *other) {
    config.Fail("num_local_experts", "the value of num_experts, " + std::to_string(*usual));
  }
  if (!usual && other) {
    return static_cast<int32_t>(*other);
  }
  return static_cast<int32_t>(config.RequireInt("num_experts", 1, kMaxExperts));
}

bool IsRaw(const Checkpoint& checkpoint, const MoeLayout& layout) {
  std::optional<bool> raw;
  std::string decided_by;
  for (int32_t layer = 0; layer < layout.layers; ++layer) {
    if (layout.is_full_attention[static_cast<size_t>(layer)]) {
      continue;
    }
    const std::string name = layout.LayerPrefix(layer) + "linear_attn.conv1d.weight";
    const auto tensor = checkpoint.FindTensor(name);
    if (!tensor) {
      throw Error(ErrorCode::kNotFound,
                  "tensor " + name + " is missing in " + checkpoint.dir().string(),
                  kFetchModelAgain);
    }
    const Shape& shape = tensor->shape;
    if (shape.rank() != 3 || (shape[1] != 1 && shape[2] != 1)) {
      throw Error(ErrorCode::kCorruptFile,
                  checkpoint.FileOf(name) + ": tensor " + name + " has shape " + shape.ToString() +
                      ", expected [channels, 1, taps] or [channels, taps, 1]",
                  kFetchModelAgain);
    }
    const bool here = shape[2] != 1;
    if (raw && *raw != here) {
      throw Error(ErrorCode::kCorruptFile,
                  checkpoint.dir().string() + ": " + decided_by + " and " + name +
                      " are in different layouts, so it is open whether norm weights are shifted",
                  "fetch the model again; files of different versions of it do not go together");
    }
    raw = here;
    decided_by = name;
  }
  if (!raw) {
    throw Error(ErrorCode::kUnsupported,
                checkpoint.config().Where("layer_types") +
                    " has no linear_attention layer; whose conv1d weight would tell the layout");
  }
  return *raw;
}

}  // namespace

std::optional<MoeFamily> FindMoeFamily(std::string_view model_type) {
  for (const FamilyName& row : kFamilyNames) {
    if (row.model_type == model_type) {
      return row.family;
    }
  }
  return std::nullopt;
}

std::string MoeFamilyName(MoeFamily family) {
  const auto* const row = std::ranges::find(kFamilyNames, family, &FamilyName::family);
  return std::string(row->model_type);
}

MoeLayout MoeLayout::Of(const Checkpoint& checkpoint) {
  const ConfigReader& config = checkpoint.config();
  const auto family = FindMoeFamily(checkpoint.model_type());
  if (!family) {
    throw Error(ErrorCode::kUnsupported, checkpoint.root_config().Where("model_type") + " is \"" +
                                             checkpoint.model_type() +
                                             "\", which is no known Mixture-of-Experts family");
  }
  MoeLayout layout;
  layout.family = *family;
  layout.prefix = FindPrefix(checkpoint);
  layout.lm_head = FindHead(checkpoint, layout.prefix);
  layout.layers = static_cast<int32_t>(config.RequireInt("num_hidden_layers", 1, kMaxLayers));
  layout.experts = {ExpertCount(config), config.RequireInt("hidden_size", 1, 1 << 20),
                    config.RequireInt("moe_intermediate_size", 1, 1 << 20)};
  switch (layout.family) {
    case MoeFamily::kQwen3Moe:
      layout.is_moe = MoeLayers(config, layout.layers);
      layout.is_full_attention.assign(static_cast<size_t>(layout.layers), true);
      break;
    case MoeFamily::kQwen35Moe:
      layout.is_moe.assign(static_cast<size_t>(layout.layers), true);
      layout.is_full_attention = FullAttentionLayers(config, layout.layers);
      layout.raw = IsRaw(checkpoint, layout);
      break;
  }
  return layout;
}

std::string SkippedTensorReason(const std::string& name) {
  for (const std::string_view start : {"model.visual.", "visual.", "vision_tower.",
                                       "model.vision_tower.", "language_model.visual."}) {
    if (name.starts_with(start)) {
      return "vision tower";
    }
  }
  for (const std::string_view start :
       {"mtp.", "model.mtp.", "language_model.mtp.", "model.language_model.mtp."}) {
    if (name.starts_with(start)) {
      return "multi-token prediction head";
    }
  }
  return name.ends_with("rotary_emb.inv_freq") ? "computed, not read" : "";
}

}  // namespace mach::formats
