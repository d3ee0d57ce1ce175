// qwen3 (dense): RMS norm of each query and key head, explicit head_dim.
#include "models/families.h"

namespace mach::models {

DecoderConfig ReadQwen3(const formats::Checkpoint& checkpoint) {
  RequireFullAttention(checkpoint.config());
  DecoderConfig decoder = ReadDecoderConfig(checkpoint);
  decoder.attention.qk_norm = true;
  decoder.attention.qkv_bias = checkpoint.config().BoolOr("attention_bias", false);
  decoder.attention.o_bias = decoder.attention.qkv_bias;
  return decoder;
}

}  // namespace mach::models
