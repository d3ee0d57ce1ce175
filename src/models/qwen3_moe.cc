// qwen3_moe (Qwen3-30B-A3B): the attention of qwen3, experts without a shared one, dense layers
// where mlp_only_layers and decoder_sparse_step say so.
#include "models/families.h"

namespace mach::models {

DecoderConfig ReadQwen3Moe(const formats::Checkpoint& checkpoint) {
  const formats::ConfigReader& config = checkpoint.config();
  RequireFullAttention(config);
  DecoderConfig decoder = ReadMoeDecoderConfig(checkpoint, 1.0);
  decoder.attention.qk_norm = true;
  decoder.attention.qkv_bias = config.BoolOr("attention_bias", false);
  decoder.attention.o_bias = decoder.attention.qkv_bias;
  // Hugging Face's default; every published checkpoint says true.
  decoder.moe.router.normalise = config.BoolOr("norm_topk_prob", false);
  return decoder;
}

}  // namespace mach::models
