#include "models/registry.h"

#include "base/error.h"
#include "models/families.h"
#include "models/loader.h"

namespace mach::models {
namespace {

using Builder = std::unique_ptr<Model> (*)(const LoadContext&);

struct Row {
  ArchInfo info;
  Builder build;
};

ArchInfo DenseArch(const char* model_type) {
  return {.model_type = model_type,
          .swiglu_variant = "plain_swiglu",
          .stacked_supported = std::nullopt,
          .has_expert_bias = false,
          .text_config_wrapped = false,
          .model_module = std::string("mach.models.") + model_type,
          .default_bits = 4,
          .default_group_size = 64,
          .kv_cache_kind = "standard",
          .specdec_kind = "none",
          .continuous_batching = "ok",
          .dense = true};
}

const std::vector<Row>& Rows() {
  static const std::vector<Row> kRows = {
      {DenseArch("llama"), BuildLlama},
      {DenseArch("qwen2"), BuildQwen2},
      {DenseArch("qwen3"), BuildQwen3},
  };
  return kRows;
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
  for (const ArchInfo& info : Registry()) {
    if (info.model_type == model_type) {
      return &info;
    }
  }
  return nullptr;
}

std::unique_ptr<Model> BuildModel(const LoadContext& context) {
  const std::string model_type = context.checkpoint.model_type();
  std::string known;
  for (const Row& row : Rows()) {
    if (row.info.model_type == model_type) {
      return row.build(context);
    }
    known += (known.empty() ? "" : ", ") + row.info.model_type;
  }
  throw Error(ErrorCode::kUnsupported,
              (context.checkpoint.dir() / "config.json").string() + ": model_type is \"" +
                  model_type + "\", which this build cannot serve",
              "registered: " + known + "; see `mach archs`");
}

}  // namespace mach::models
