// Names of the tensors of the Mixture-of-Experts families, which differ between Hugging Face, MLX
// and engine checkpoints, and the two transformations that the raw Hugging Face layout needs.
// Shared by the models, which read any of them, and the converter, which writes the MLX names.
// Source: transformers and mlx-lm, qwen3_moe and qwen3_5_moe.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/checkpoint.h"
#include "formats/expert_tensors.h"

namespace mach::formats {

// The cure where tensors are missing or contradict each other.
inline constexpr const char* kFetchModelAgain =
    "the download is incomplete or damaged; fetch the model again";

// What differs between the families follows from this alone.
enum class MoeFamily {
  kQwen3Moe,   // attention in every layer
  kQwen35Moe,  // hybrid: gated delta nets and gated attention; a shared expert
};

// The family of a config.json's model_type; nothing for types that are none of them. "qwen3_5_moe"
// is "qwen3_5_moe_text" in exports of the language model alone.
std::optional<MoeFamily> FindMoeFamily(std::string_view model_type);
// The model_type that the family goes by: "qwen3_moe", "qwen3_5_moe".
std::string MoeFamilyName(MoeFamily family);

struct MoeLayout {
  MoeFamily family = MoeFamily::kQwen3Moe;
  // Everything below the language model: "model.", "language_model.model.", "model.language_model."
  std::string prefix;
  std::string lm_head;  // module name: "lm_head" or "language_model.lm_head"
  // Raw Hugging Face qwen3_5_moe: norm weights are stored as gain - 1, and conv1d.weight is
  // [channels, 1, taps] rather than [channels, taps, 1]. Decided by the conv1d weights' last
  // dimension (never by the presence of mtp.*).
  bool raw = false;

  int32_t layers = 0;
  std::vector<bool> is_moe;             // [layers]
  std::vector<bool> is_full_attention;  // [layers]; all true for qwen3_moe
  ExpertShape experts;

  std::string LayerPrefix(int32_t layer) const {
    return prefix + "layers." + std::to_string(layer) + ".";
  }
  std::string MlpModule(int32_t layer) const { return LayerPrefix(layer) + "mlp"; }

  // Reads config and tensor names of a checkpoint. Throws mach::Error naming the field or tensor;
  // kUnsupported for a model_type of no family.
  static MoeLayout Of(const Checkpoint& checkpoint);
};

// Why a tensor of such a checkpoint is not part of the language model that is served: "vision
// tower", "multi-token prediction head", "computed, not read"; empty if it is.
std::string SkippedTensorReason(const std::string& name);

}  // namespace mach::formats
