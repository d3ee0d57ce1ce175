// The JSON of the endpoints that describe the server rather than generate: capabilities, stats,
// models, health. Pure functions of the model and the engine's snapshot; any thread.
#pragma once

#include <string>

#include <nlohmann/json_fwd.hpp>

#include "loading/served_model.h"

namespace mach::server {

// Which of the two serving paths the process was started on.
enum class Profile { kOpenAi, kProduction };

// How this process serves: what `serving` in /v1/capabilities and the start-up lines say. One
// source for both, so that they cannot disagree.
struct ServingConfig {
  std::string backend;                    // "production" or "openai"
  std::string profile;                    // start-up line's name for it
  std::string serving_mode;               // "streaming", "resident", "openai-cpu-stream-generate"
  std::string expert_residency;           // "streaming", "stacked", "none"
  std::string production_streaming_mode;  // "streaming", "resident", "off"
  std::string decode_path = "target-only";
  std::string effective_decode_path = "target_only";
  std::string effective_decode_path_reason;
  std::string adaptive_block_policy = "none";
  bool prefix_cache = false;
  bool continuous_batching = false;
  loading::ExpertServing experts;  // all off for dense models
};

// From the model as it was loaded.
ServingConfig DescribeServing(const loading::ModelInfo& info, Profile profile);

// The `arch` object, shared with `mach archs --json`; null for an unregistered architecture.
nlohmann::ordered_json ArchJson(const std::optional<models::ArchInfo>& arch);

std::string CapabilitiesJson(const loading::ModelInfo& info, const ServingConfig& config);
std::string StatsJson(const engine::EngineStats& stats, const ServingConfig& config);
// With `detail` the summary lists the layers.
std::string CacheStatsJson(const engine::EngineStats& stats, bool detail);
std::string WarmPrefixStatusJson();
std::string ModelJson(const loading::ModelInfo& info);
std::string ModelListJson(const loading::ModelInfo& info);
std::string HealthJson(bool ready, const loading::LoadProgress& progress);

// The body of a 503 while loading: the error object and, beside it, `progress`.
std::string LoadingErrorJson(const loading::LoadProgress& progress);

}  // namespace mach::server
