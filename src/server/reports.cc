#include "server/reports.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "api/errors.h"
#include "base/clock.h"
#include "platform/process_memory.h"

namespace mach::server {
namespace {

using Json = nlohmann::ordered_json;

double Rate(int64_t tokens, double seconds) {
  return seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
}

Json ProgressJson(const loading::LoadProgress& progress) {
  const uint64_t done = progress.bytes_done.load();
  const uint64_t total = progress.bytes_total.load();
  const double fraction =
      total > 0 ? std::min(1.0, static_cast<double>(done) / static_cast<double>(total)) : 0.0;
  return Json{{"bytes_done", done}, {"bytes_total", total}, {"fraction", fraction}};
}

Json ModelObject(const loading::ModelInfo& info) {
  return Json{{"id", info.id},
              {"object", "model"},
              {"created", info.created_unix_s},
              {"owned_by", "mach"},
              {"max_model_len", info.max_context}};
}

// How old numbers are that were read when they were asked for.
constexpr double kLiveAgeS = 0;

// `stale`: the numbers lag behind a generation that is running.
void AddFreshness(Json& out, bool stale, double age_s) {
  out["stale_generation_in_flight"] = stale;
  out["snapshot_age_s"] = age_s;
}

// A directory's name, and so a model's id, may be no UTF-8.
std::string Dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json DirectPreadJson(bool active, const std::string& io) {
  return Json{{"active", active}, {"mode", io}};
}

}  // namespace

Json ArchJson(const std::optional<models::ArchInfo>& arch) {
  if (!arch) {
    return nullptr;
  }
  Json out = Json::object();
  out["model_type"] = arch->model_type;
  out["swiglu_variant"] = arch->swiglu_variant;
  const auto if_experts = [](const std::optional<bool>& fact) {
    return fact ? Json(*fact) : Json();
  };
  out["stacked_supported"] = if_experts(arch->stacked_supported);
  out["has_expert_bias"] = if_experts(arch->has_expert_bias);
  out["text_config_wrapped"] = arch->text_config_wrapped;
  out["model_module"] = arch->model_module;
  out["default_bits"] = arch->default_bits;
  out["default_group_size"] = arch->default_group_size;
  out["kv_cache_kind"] = arch->kv_cache_kind;
  out["specdec_kind"] = arch->specdec_kind;
  out["continuous_batching"] = arch->continuous_batching;
  return out;
}

ServingNames NamesOf(const loading::ModelInfo& info) {
  const bool production = info.path != loading::ServingPath::kOpenAi;
  const bool streaming = info.experts_serving && info.experts_serving->streaming;
  const std::string mode = streaming ? "streaming" : "resident";
  return {.backend = production ? "production" : "openai",
          // The generic path's name says that this build generates without MLX.
          .serving_mode = production ? mode : "openai-cpu-stream-generate",
          .expert_residency = !info.experts_serving ? "none"
                              : streaming           ? "streaming"
                                                    : "stacked",
          .production_streaming_mode = production ? mode : "off"};
}

std::string CapabilitiesJson(const loading::ModelInfo& info) {
  const ServingNames names = NamesOf(info);
  Json serving = Json::object();
  serving["expert_residency"] = names.expert_residency;
  serving["serving_mode"] = names.serving_mode;
  serving["decode_path"] = info.decode.configured;
  serving["effective_decode_path"] = info.decode.effective;
  serving["effective_decode_path_reason"] = info.decode.reason;
  serving["continuous_batching"] = false;
  serving["turboquant_kv"] = false;
  if (info.path == loading::ServingPath::kOpenAi) {
    serving["disk_kv"] = false;
  }
  if (info.experts_serving && info.experts_serving->streaming) {
    serving["direct_pread"] =
        DirectPreadJson(info.experts_serving->direct, info.experts_serving->io);
  }
  serving["decode_policy"] = Json{{"mode", "sampled"}, {"engine_mode", "target_only"}};
  serving["speculation"] = Json{{"supported_presets", Json::array({"none"})},
                                {"additive", true},
                                {"exactness_preserving", true}};
  serving["rho_gate"] = nullptr;
  Json out = Json::object();
  out["model"] = info.id;
  out["backend"] = names.backend;
  out["supported"] = true;  // or there would be no model
  out["arch"] = ArchJson(info.arch);
  out["serving"] = std::move(serving);
  out["grammar"] = Json{{"xgrammar", false}, {"lm_format_enforcer", false}, {"llguidance", true}};
  return Dump(out);
}

std::string StatsJson(const engine::EngineStats& stats, const loading::ModelInfo& info) {
  Json out = Json::object();
  out["requests"] = Json{{"total", stats.requests_total},
                         {"active", stats.requests_active},
                         {"queued", stats.requests_queued},
                         {"cancelled", stats.requests_cancelled},
                         {"failed", stats.requests_failed}};
  out["prefill"] = Json{{"tokens", stats.prefill_tokens},
                        {"seconds", stats.prefill_s},
                        {"tok_s", Rate(stats.prefill_tokens, stats.prefill_s)},
                        {"recent_tok_s", stats.recent_prefill_tok_s}};
  out["decode"] = Json{{"tokens", stats.decode_tokens},
                       {"seconds", stats.decode_s},
                       {"tok_s", Rate(stats.decode_tokens, stats.decode_s)},
                       {"recent_tok_s", stats.recent_decode_tok_s}};
  // Nothing is drafted on this path, so the counters are zero and there is no acceptance to report.
  out["specdec_drafted"] = 0;
  out["specdec_accepted"] = 0;
  out["recent_alpha"] = nullptr;
  out["observed_cycles"] = 0;
  out["low_cycles"] = 0;
  out["adaptive_block_policy"] =
      Json{{"name", info.decode.block_policy}, {"alpha_window", nullptr},
           {"alpha_threshold", nullptr},       {"low_block", nullptr},
           {"default_block", nullptr},         {"current_block", nullptr}};
  const ProcessMemory memory = ReadProcessMemory();
  Json accounted = Json::object();
  for (const auto& [owner, bytes] : stats.accounted_bytes) {
    accounted[owner] = bytes;
  }
  out["process"] = Json{{"rss_bytes", memory.rss_bytes},
                        {"peak_rss_bytes", memory.peak_rss_bytes},
                        {"accounted_bytes", std::move(accounted)}};
  AddFreshness(out, stats.requests_active > 0, std::max(0.0, NowSeconds() - stats.taken_at_s));
  return Dump(out);
}

namespace {

Json StreamingSummaryJson(const experts::ExpertStats& stats,
                          const std::optional<std::vector<std::string>>& map) {
  const int64_t asked = stats.hits + stats.misses;
  Json out = {
      {"experts_resident", stats.experts_resident},
      {"capacity", stats.capacity},
      {"hits", stats.hits},
      {"misses", stats.misses},
      {"evictions", stats.evictions},
      {"hit_rate",
       asked > 0 ? Json(static_cast<double>(stats.hits) / static_cast<double>(asked)) : Json()},
      {"prefill_hits", stats.prefill_hits},
      {"prefill_misses", stats.prefill_misses},
      {"bytes_read", stats.bytes_read},
      {"read_seconds", stats.read_seconds},
      {"stall_seconds", stats.stall_seconds},
      {"prefetches", stats.prefetches},
      {"prefetch_hits", stats.prefetch_hits},
      {"read_ahead_dropped", stats.read_ahead_dropped},
      {"read_errors", stats.read_errors},
      {"policy", stats.policy},
      {"direct_pread", DirectPreadJson(stats.direct, stats.io)},
      {"snapshot_age_s", kLiveAgeS}};
  if (map) {
    Json layers = Json::array();
    for (size_t i = 0; i < stats.per_layer.size(); ++i) {
      const experts::LayerStats& layer = stats.per_layer[i];
      layers.push_back(Json{{"layer", layer.layer},
                            {"resident", layer.resident},
                            {"hits", layer.hits},
                            {"misses", layer.misses},
                            {"prefill_hits", layer.prefill_hits},
                            {"prefill_misses", layer.prefill_misses},
                            {"map", i < map->size() ? (*map)[i] : ""}});
    }
    out["per_layer"] = std::move(layers);
  }
  return out;
}

}  // namespace

std::string CacheStatsJson(const engine::EngineStats& stats,
                           const std::optional<std::vector<std::string>>& map) {
  Json l1 = {{"entries", 0}, {"bytes", 0}, {"hits", 0}, {"misses", 0}, {"evictions", 0}};
  Json l2 = {{"dir", nullptr}, {"entries", 0}, {"bytes", 0},     {"budget_bytes", 0},
             {"hits", 0},      {"misses", 0},  {"evictions", 0}, {"rejected_corrupt", 0}};
  Json out = Json::object();
  out["prefix_cache"] = Json{
      {"enabled", false}, {"l1", std::move(l1)}, {"l2", std::move(l2)}, {"tokens_restored", 0}};
  // Null where there is no bank: dense models, and experts that are all resident.
  out["streaming_summary"] = stats.experts && stats.experts->streaming
                                 ? StreamingSummaryJson(*stats.experts, map)
                                 : Json();
  AddFreshness(out, /*stale=*/false, kLiveAgeS);
  return Dump(out);
}

std::string WarmPrefixStatusJson() {
  return Dump(Json{{"enabled", false},
                   {"reason", "this server has no prefix cache yet"},
                   {"entries", Json::array()}});
}

std::string ModelJson(const loading::ModelInfo& info) {
  return Dump(ModelObject(info));
}

std::string ModelListJson(const loading::ModelInfo& info) {
  return Dump(Json{{"object", "list"}, {"data", Json::array({ModelObject(info)})}});
}

std::string HealthJson(bool ready, const loading::LoadProgress& progress) {
  if (ready) {
    return R"({"status":"ok"})";
  }
  return Dump(Json{{"status", "loading"}, {"progress", ProgressJson(progress)}});
}

api::ErrorInfo LoadingError(const loading::LoadProgress& progress) {
  const auto percent = static_cast<int>(ProgressJson(progress)["fraction"].get<double>() * 100);
  return api::ModelLoading("The model is still loading: " + std::to_string(percent) +
                           " % of its weights are read.");
}

std::string WithProgress(std::string error, const loading::LoadProgress& progress) {
  error.pop_back();
  return error + ",\"progress\":" + Dump(ProgressJson(progress)) + "}";
}

}  // namespace mach::server
