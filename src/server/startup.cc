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

std::vector<std::string> StartupLines(const loading::ModelInfo& info) {
  const ServingNames names = NamesOf(info);
  const loading::ExpertServing experts =
      info.experts_serving.value_or(loading::ExpertServing{});  // all off for dense models
  Line mode("startup mode");
  mode.Add("profile", names.backend)
      .Add("production_streaming_mode", names.production_streaming_mode)
      .Add("transient_prefill", experts.transient_prefill)
      .Add("expert_residency", names.expert_residency)
      .Add("arch", info.arch.model_type)
      .Add("layers", std::to_string(info.layers))
      .Add("experts", std::to_string(info.experts))
      .Add("expert_cache_bytes", std::to_string(experts.cache_bytes))
      .Add("backend", names.backend)
      .Add("prefill_chunk", std::to_string(info.prefill_chunk));
  Line optimizations("production optimizations");
  optimizations.Add("direct_pread", experts.direct)
      .Add("native_prefill_fused", experts.grouped_prefill)
      .Add("async_prefetch", experts.prefetch)
      .Add("resident_metal", false)
      .Add("threads", std::to_string(info.threads))
      .Add("isa", info.isa);
  // Ready if records really are read past the page cache; without streaming nothing needs it.
  const char* const extension = !experts.streaming ? "unused"
                                : experts.direct   ? "ready"
                                                   : "missing";
  Line direct("startup direct-pread");
  direct.Add("expected", experts.streaming && !experts.allow_buffered)
      .Add("sidecar_present", experts.sidecar_present)
      .Add("sidecar_valid", experts.sidecar_valid)
      .Add("native_extension", extension)
      .Add("io", experts.io)
      .Add("fallback_policy", experts.allow_buffered ? "diagnostic" : "fail-fast");
  Line decode("startup");
  decode.Add("decode_path", info.decode.configured)
      .Add("effective_decode_path", info.decode.effective)
      .Add("adaptive_block_policy", info.decode.block_policy)
      .Add("prefix_cache", "off");
  return {mode.text(), optimizations.text(), direct.text(), decode.text()};
}

std::string ServingLine(const std::string& host, int port) {
  const bool ipv6 = host.find(':') != std::string::npos;
  return "serving on http://" + (ipv6 ? "[" + host + "]" : host) + ":" + std::to_string(port) +
         "/v1";
}

}  // namespace mach::server
