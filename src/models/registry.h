// The architecture registry: every model_type that can be served, as static facts.
// How to add one: docs/ARCHITECTURE.md, "A model family".
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mach::models {

// Field for field the `arch` object of /v1/capabilities and of `mach archs --json`.
struct ArchInfo {
  std::string model_type;
  std::string swiglu_variant;
  std::optional<bool> stacked_supported;  // these two: null for dense families, without experts
  std::optional<bool> has_expert_bias;
  bool text_config_wrapped = false;
  std::string model_module;
  int default_bits = 4;
  int default_group_size = 64;
  std::string kv_cache_kind;        // "standard", "hybrid_gdn", "rotating", "compressed"
  std::string specdec_kind;         // "specdec_v7", "v4_mtp", "none"
  std::string continuous_batching;  // "ok", or the reason why not
  bool dense = true;                // dense families run on the generic backend only
};

const std::vector<ArchInfo>& Registry();
const ArchInfo* FindArch(std::string_view model_type);  // null if not registered

}  // namespace mach::models
