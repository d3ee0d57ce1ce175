// What a family says about its decoder: sizes, which parts each layer has, and where the tensors
// are. A family fills one from a checkpoint's headers (families.h); decoder.h builds the model of
// it. A value.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "formats/checkpoint.h"
#include "formats/moe_layout.h"
#include "models/model.h"

namespace mach::models {

struct AttentionConfig {
  int32_t q_heads = 0;
  int32_t kv_heads = 0;
  int32_t head_dim = 0;
  bool qk_norm = false;      // RMS norm of each query and key head before the rotation
  bool output_gate = false;  // q_proj has rows [query | gate] for each head
  bool qkv_bias = false;     // these biases must be in the checkpoint; others must not
  bool o_bias = false;
  backend::RopeSpec rope;
};

struct GatedDeltaConfig {
  int32_t k_heads = 0;
  int32_t v_heads = 0;
  int32_t k_dim = 0;
  int32_t v_dim = 0;
  int32_t conv_kernel = 0;
};

struct MlpConfig {
  int64_t intermediate_size = 0;
  bool bias = false;
};

struct MoeConfig {
  formats::ExpertShape experts;
  backend::RouterSpec router;
  int64_t shared_intermediate_size = 0;  // of the gated shared expert; 0 = there is none
};

enum class MixerKind { kAttention, kGatedDelta };
enum class FeedForwardKind { kMlp, kMoe };

struct LayerKind {
  MixerKind mixer = MixerKind::kAttention;
  FeedForwardKind feed_forward = FeedForwardKind::kMlp;
};

struct DecoderConfig {
  std::string prefix = "model.";    // of all tensors but the output layer's
  std::string lm_head = "lm_head";  // module of the output layer
  bool zero_centred_norms = false;  // gains of norms are stored minus one (raw qwen3_5_moe)

  int32_t hidden_size = 0;
  int32_t vocab_size = 0;
  int64_t max_context = 0;  // tokens
  float norm_eps = 0;
  bool tie_word_embeddings = false;
  std::vector<LayerKind> layers;

  // Each is that of all layers which have the part.
  AttentionConfig attention;
  GatedDeltaConfig gated_delta;
  MlpConfig mlp;
  MoeConfig moe;

  std::string LayerPrefix(size_t layer) const {
    return prefix + "layers." + std::to_string(layer) + ".";
  }
  int32_t CountLayers(MixerKind mixer) const;
  int32_t CountLayers(FeedForwardKind feed_forward) const;
  backend::KvShape KvShape(DType dtype) const;
  backend::RecurrentShape RecurrentShape() const;
  ModelShape Shape() const;
};

// For the family sources. All throw kCorruptFile naming the field of config.json.

// Sizes, attention and tying. All layers are attention with a dense MLP.
DecoderConfig ReadDecoderConfig(const formats::Checkpoint& checkpoint);

// The same for a Mixture-of-Experts family: names and kinds of layers as the layout has them, MLP
// sizes where a layer has one, experts and router but for RouterSpec::normalise.
// `default_rotary_factor`: see ReadRope.
DecoderConfig ReadMoeDecoderConfig(const formats::Checkpoint& checkpoint,
                                   double default_rotary_factor);

// intermediate_size
MlpConfig ReadMlpConfig(const formats::ConfigReader& config);

// These families have only full attention: refuses use_sliding_window.
void RequireFullAttention(const formats::ConfigReader& config);

}  // namespace mach::models
