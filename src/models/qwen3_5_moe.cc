// qwen3_5_moe (Qwen3.5-35B-A3B, Qwen3.6-35B-A3B): three Gated DeltaNet layers to one of gated
// attention, experts with a gated shared expert in every layer. The text model only: with text
// alone the three position axes of its rotary embedding are one.
#include "models/families.h"

namespace mach::models {
namespace {

GatedDeltaConfig ReadGatedDelta(const formats::ConfigReader& config) {
  const auto size = [&](const char* field, int64_t max) {
    return static_cast<int32_t>(config.RequireInt(field, 1, max));
  };
  GatedDeltaConfig gated_delta{.k_heads = size("linear_num_key_heads", 4096),
                               .v_heads = size("linear_num_value_heads", 4096),
                               .k_dim = size("linear_key_head_dim", 4096),
                               .v_dim = size("linear_value_head_dim", 4096),
                               .conv_kernel = size("linear_conv_kernel_dim", 64)};
  if (gated_delta.v_heads % gated_delta.k_heads != 0) {
    config.Fail("linear_num_value_heads",
                "a multiple of linear_num_key_heads (" + std::to_string(gated_delta.k_heads) + ")");
  }
  return gated_delta;
}

}  // namespace

DecoderConfig ReadQwen35Moe(const formats::Checkpoint& checkpoint) {
  const formats::ConfigReader& config = checkpoint.config();
  DecoderConfig decoder = ReadMoeDecoderConfig(checkpoint, 0.25);
  decoder.attention.qk_norm = true;
  decoder.attention.output_gate = config.BoolOr("attn_output_gate", true);
  decoder.attention.qkv_bias = config.BoolOr("attention_bias", false);
  decoder.attention.o_bias = decoder.attention.qkv_bias;
  if (decoder.CountLayers(MixerKind::kGatedDelta) > 0) {
    decoder.gated_delta = ReadGatedDelta(config);
  }
  decoder.moe.shared_intermediate_size =
      config.RequireInt("shared_expert_intermediate_size", 1, 1 << 24);
  return decoder;
}

}  // namespace mach::models
