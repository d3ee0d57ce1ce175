// The JSON of the endpoints that describe the server rather than generate: capabilities, stats,
// models, health. Pure functions of the model and the engine's snapshot; any thread.
#pragma once

#include <string>

#include <nlohmann/json_fwd.hpp>

#include "engine/served_model.h"

namespace mach::server {

// How this process serves: what `serving` in /v1/capabilities and the start-up lines say. One
// source for both, so that they cannot disagree.
struct ServingConfig {
  std::string backend = "openai";                           // "production" or "openai"
  std::string profile = "openai";                           // start-up line's name for it
  std::string serving_mode = "openai-cpu-stream-generate";  // no MLX in this build
  std::string expert_residency = "none";                    // "streaming", "stacked"
  std::string production_streaming_mode = "off";
  std::string decode_path = "target-only";
  std::string effective_decode_path = "target_only";
  std::string effective_decode_path_reason = "the openai backend decodes without a draft model";
  std::string adaptive_block_policy = "none";
  std::string fallback_policy = "fail-fast";
  bool transient_prefill = false;
  bool prefix_cache = false;
  bool continuous_batching = false;
  uint64_t expert_cache_bytes = 0;
};

// The `arch` object, shared with `mach archs --json`; null for an unregistered architecture.
nlohmann::ordered_json ArchJson(const std::optional<models::ArchInfo>& arch);

std::string CapabilitiesJson(const engine::ModelInfo& info, const ServingConfig& config);
std::string StatsJson(const engine::EngineStats& stats, const ServingConfig& config);
std::string CacheStatsJson(const engine::EngineStats& stats);
std::string WarmPrefixStatusJson();
std::string ModelJson(const engine::ModelInfo& info);
std::string ModelListJson(const engine::ModelInfo& info);
std::string HealthJson(bool ready, const engine::LoadProgress& progress);

// The body of a 503 while loading: the error object and, beside it, `progress`.
std::string LoadingErrorJson(const engine::LoadProgress& progress);

}  // namespace mach::server
