#include "server/startup.h"

namespace mach::server {
namespace {

class Line {
 public:
  explicit Line(std::string start) : text_(std::move(start)) {}

  Line& Add(const char* key, const std::string& value) {
    text_ += " " + std::string(key) + "=" + value;
    return *this;
  }
  Line& Add(const char* key, bool value) { return Add(key, std::string(value ? "1" : "0")); }
  Line& Add(const char* key, const char* value) { return Add(key, std::string(value)); }

  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

}  // namespace

std::vector<std::string> StartupLines(const engine::ModelInfo& info, const ServingConfig& config) {
  Line mode("startup mode");
  mode.Add("profile", config.profile)
      .Add("production_streaming_mode", config.production_streaming_mode)
      .Add("transient_prefill", config.transient_prefill)
      .Add("expert_residency", config.expert_residency)
      .Add("arch", info.arch ? info.arch->model_type : "unregistered")
      .Add("layers", std::to_string(info.layers))
      .Add("experts", std::to_string(info.experts))
      .Add("expert_cache_bytes", std::to_string(config.expert_cache_bytes))
      .Add("backend", config.backend);
  Line optimizations("production optimizations");
  optimizations.Add("direct_pread", false)
      .Add("native_prefill_fused", false)
      .Add("async_prefetch", false)
      .Add("resident_metal", false)
      .Add("threads", std::to_string(info.threads))
      .Add("isa", info.isa);
  // A model without experts on disk has nothing to read directly, so nothing was opened or probed.
  Line direct("startup direct-pread");
  direct.Add("expected", false)
      .Add("sidecar_present", false)
      .Add("sidecar_valid", false)
      .Add("native_extension", "missing")
      .Add("io", "none")
      .Add("fallback_policy", config.fallback_policy);
  Line decode("startup");
  decode.Add("decode_path", config.decode_path)
      .Add("effective_decode_path", config.effective_decode_path)
      .Add("adaptive_block_policy", config.adaptive_block_policy)
      .Add("prefix_cache", config.prefix_cache ? "on" : "off");
  return {mode.text(), optimizations.text(), direct.text(), decode.text()};
}

std::string ServingLine(const std::string& host, int port) {
  const bool ipv6 = host.find(':') != std::string::npos;
  return "serving on http://" + (ipv6 ? "[" + host + "]" : host) + ":" + std::to_string(port) +
         "/v1";
}

}  // namespace mach::server
