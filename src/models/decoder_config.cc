#include "models/decoder_config.h"

#include <algorithm>
#include <optional>

#include "models/rope.h"

namespace mach::models {
namespace {

int32_t RequireInt32(const formats::ConfigReader& config, const char* field, int64_t max) {
  return static_cast<int32_t>(config.RequireInt(field, 1, max));
}

AttentionConfig ReadAttention(const formats::ConfigReader& config, int32_t hidden_size,
                              double default_rotary_factor) {
  AttentionConfig attention;
  attention.q_heads = RequireInt32(config, "num_attention_heads", 4096);
  attention.kv_heads =
      static_cast<int32_t>(config.IntOr("num_key_value_heads", attention.q_heads, 1, 4096));
  if (attention.q_heads % attention.kv_heads != 0) {
    config.Fail("num_key_value_heads",
                "a divisor of num_attention_heads (" + std::to_string(attention.q_heads) + ")");
  }
  attention.head_dim =
      static_cast<int32_t>(config.IntOr("head_dim", hidden_size / attention.q_heads, 1, 4096));
  if (attention.head_dim % 16 != 0) {
    config.Fail(config.Has("head_dim") ? "head_dim" : "num_attention_heads",
                "heads of a multiple of 16 dimensions, not " + std::to_string(attention.head_dim));
  }
  attention.rope = ReadRope(config, attention.head_dim, default_rotary_factor);
  return attention;
}

// Everything but the feed-forward.
DecoderConfig ReadBase(const formats::Checkpoint& checkpoint, const std::string& lm_head,
                       double default_rotary_factor) {
  const formats::ConfigReader& config = checkpoint.config();
  DecoderConfig decoder;
  decoder.lm_head = lm_head;
  decoder.layers.resize(static_cast<size_t>(config.RequireInt("num_hidden_layers", 1, 4096)));
  decoder.hidden_size = RequireInt32(config, "hidden_size", 1 << 20);
  decoder.vocab_size = RequireInt32(config, "vocab_size", 1 << 24);
  decoder.max_context = ReadMaxContext(config);
  decoder.norm_eps = static_cast<float>(config.FloatOr("rms_norm_eps", 1e-6, 0, 1));
  decoder.tie_word_embeddings = checkpoint.TiesWordEmbeddings(lm_head);
  if (const auto act = config.OptionalString("hidden_act"); act && *act != "silu") {
    config.Fail("hidden_act", "\"silu\"");
  }
  decoder.attention = ReadAttention(config, decoder.hidden_size, default_rotary_factor);
  return decoder;
}

}  // namespace

int32_t DecoderConfig::CountLayers(MixerKind mixer) const {
  return static_cast<int32_t>(
      std::ranges::count_if(layers, [&](const LayerKind& kind) { return kind.mixer == mixer; }));
}

int32_t DecoderConfig::CountLayers(FeedForwardKind feed_forward) const {
  return static_cast<int32_t>(std::ranges::count_if(
      layers, [&](const LayerKind& kind) { return kind.feed_forward == feed_forward; }));
}

backend::KvShape DecoderConfig::KvShape(DType dtype) const {
  return {.layers = CountLayers(MixerKind::kAttention),
          .kv_heads = attention.kv_heads,
          .head_dim = attention.head_dim,
          .dtype = dtype};
}

backend::RecurrentShape DecoderConfig::RecurrentShape() const {
  return {.layers = CountLayers(MixerKind::kGatedDelta),
          .k_heads = gated_delta.k_heads,
          .v_heads = gated_delta.v_heads,
          .k_dim = gated_delta.k_dim,
          .v_dim = gated_delta.v_dim,
          .conv_kernel = gated_delta.conv_kernel};
}

ModelShape DecoderConfig::Shape() const {
  return {.layers = static_cast<int32_t>(layers.size()),
          .hidden_size = hidden_size,
          .vocab_size = vocab_size,
          .max_context = max_context,
          .moe_layers = CountLayers(FeedForwardKind::kMoe),
          .experts = moe.experts.experts,
          .experts_per_token = moe.router.top_k,
          .kv = KvShape(DType::kBF16),
          .recurrent = RecurrentShape()};
}

DecoderConfig ReadDecoderConfig(const formats::Checkpoint& checkpoint) {
  DecoderConfig decoder = ReadBase(checkpoint, "lm_head", 1.0);
  decoder.mlp = ReadMlpConfig(checkpoint.config());
  return decoder;
}

DecoderConfig ReadMoeDecoderConfig(const formats::Checkpoint& checkpoint,
                                   double default_rotary_factor) {
  const formats::ConfigReader& config = checkpoint.config();
  const formats::MoeLayout layout = formats::MoeLayout::Of(checkpoint);
  DecoderConfig decoder = ReadBase(checkpoint, layout.lm_head, default_rotary_factor);
  decoder.prefix = layout.prefix;
  decoder.zero_centred_norms = layout.raw;
  for (size_t i = 0; i < decoder.layers.size(); ++i) {
    decoder.layers[i] = {
        .mixer = layout.is_full_attention[i] ? MixerKind::kAttention : MixerKind::kGatedDelta,
        .feed_forward = layout.is_moe[i] ? FeedForwardKind::kMoe : FeedForwardKind::kMlp};
  }
  if (decoder.CountLayers(FeedForwardKind::kMlp) > 0) {
    decoder.mlp = ReadMlpConfig(config);
  }
  decoder.moe.experts = layout.experts;
  decoder.moe.router.top_k =
      static_cast<int32_t>(config.RequireInt("num_experts_per_tok", 1, layout.experts.experts));
  return decoder;
}

MlpConfig ReadMlpConfig(const formats::ConfigReader& config) {
  return {.intermediate_size = config.RequireInt("intermediate_size", 1, 1 << 24)};
}

void RequireFullAttention(const formats::ConfigReader& config) {
  if (config.BoolOr("use_sliding_window", false)) {
    config.Fail("use_sliding_window", "false: sliding windows are not supported in this family");
  }
}

}  // namespace mach::models
