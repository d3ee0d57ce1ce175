#include "models/registry.h"

#include "base/error.h"
#include "formats/moe_layout.h"
#include "models/decoder.h"
#include "models/families.h"
#include "models/loader.h"

namespace mach::models {
namespace {

struct Row {
  ArchInfo info;
  DecoderConfig (*read)(const formats::Checkpoint&);
};

ArchInfo DenseArch(const char* model_type) {
  return {.model_type = model_type,
          .swiglu_variant = "plain_swiglu",
          .stacked_supported = std::nullopt,
          .has_expert_bias = std::nullopt,
          .text_config_wrapped = false,
          .model_module = std::string("mach.models.") + model_type,
          .default_bits = 4,
          .default_group_size = 64,
          .kv_cache_kind = "standard",
          .specdec_kind = "none",
          .continuous_batching = "ok",
          .dense = true};
}

ArchInfo MoeArch(const char* model_type, const char* kv_cache_kind) {
  ArchInfo arch = DenseArch(model_type);
  arch.stacked_supported = true;
  arch.has_expert_bias = false;
  arch.kv_cache_kind = kv_cache_kind;
  arch.specdec_kind = "specdec_v7";
  arch.dense = false;
  return arch;
}

ArchInfo Qwen35MoeArch() {
  ArchInfo arch = MoeArch("qwen3_5_moe", "hybrid_gdn");
  arch.text_config_wrapped = true;
  return arch;
}

const std::vector<Row>& Rows() {
  static const std::vector<Row> kRows = {
      {Qwen35MoeArch(), ReadQwen35Moe}, {MoeArch("qwen3_moe", "standard"), ReadQwen3Moe},
      {DenseArch("llama"), ReadLlama},  {DenseArch("qwen2"), ReadQwen2},
      {DenseArch("qwen3"), ReadQwen3},
  };
  return kRows;
}

const Row* FindRow(std::string_view model_type) {
  const auto family = formats::FindMoeFamily(model_type);
  const std::string name = family ? formats::MoeFamilyName(*family) : std::string(model_type);
  for (const Row& row : Rows()) {
    if (row.info.model_type == name) {
      return &row;
    }
  }
  return nullptr;
}

DecoderConfig ReadConfig(const formats::Checkpoint& checkpoint) {
  const Row* const row = FindRow(checkpoint.model_type());
  if (row == nullptr) {
    std::string known;
    for (const Row& other : Rows()) {
      known += (known.empty() ? "" : ", ") + other.info.model_type;
    }
    throw Error(ErrorCode::kUnsupported,
                (checkpoint.dir() / "config.json").string() + ": model_type is \"" +
                    checkpoint.model_type() + "\", which this build cannot serve",
                "registered: " + known + "; see `mach archs`");
  }
  return row->read(checkpoint);
}

}  // namespace

const std::vector<ArchInfo>& Registry() {
  static const std::vector<ArchInfo> kInfos = [] {
    std::vector<ArchInfo> infos;
    for (const Row& row : Rows()) {
      infos.push_back(row.info);
    }
    return infos;
  }();
  return kInfos;
}

const ArchInfo* FindArch(std::string_view model_type) {
  const Row* const row = FindRow(model_type);
  return row != nullptr ? &row->info : nullptr;
}

ModelShape ReadModelShape(const formats::Checkpoint& checkpoint) {
  return ReadConfig(checkpoint).Shape();
}

std::unique_ptr<Model> BuildModel(const LoadContext& context) {
  auto model = MakeDecoder(context, ReadConfig(context.checkpoint));
  context.checkpoint.RequireIntact();
  return model;
}

}  // namespace mach::models
