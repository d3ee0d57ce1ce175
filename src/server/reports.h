// The JSON of the endpoints that describe the server rather than generate: capabilities, stats,
// models, health. Pure functions of the model and the engine's snapshot; any thread.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "api/errors.h"
#include "loading/served_model.h"

namespace mach::server {

// What clients and start-up lines call the way in which a model is served.
struct ServingNames {
  std::string backend;                    // "production" or "openai"
  std::string serving_mode;               // "streaming", "resident", "openai-cpu-stream-generate"
  std::string expert_residency;           // "streaming", "stacked", "none"
  std::string production_streaming_mode;  // "streaming", "resident", "off"
};
ServingNames NamesOf(const loading::ModelInfo& info);

// The `arch` object, shared with `mach archs --json`; null for an unregistered architecture.
nlohmann::ordered_json ArchJson(const std::optional<models::ArchInfo>& arch);

std::string CapabilitiesJson(const loading::ModelInfo& info);
std::string StatsJson(const engine::EngineStats& stats, const loading::ModelInfo& info);
// With a map, which may be empty, the summary lists the layers.
std::string CacheStatsJson(const engine::EngineStats& stats,
                           const std::optional<std::vector<std::string>>& map);
std::string WarmPrefixStatusJson();
std::string ModelJson(const loading::ModelInfo& info);
std::string ModelListJson(const loading::ModelInfo& info);
std::string HealthJson(bool ready, const loading::LoadProgress& progress);

// The body of a 503 while loading: the error object and, beside it, `progress`.
api::ErrorInfo LoadingError(const loading::LoadProgress& progress);
// `error`, an object, with `progress` in it.
std::string WithProgress(std::string error, const loading::LoadProgress& progress);

}  // namespace mach::server
