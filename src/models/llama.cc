// llama: Llama 1 to 3, SmolLM2, Mistral-shaped exports of the same model_type.
#include "models/families.h"

namespace mach::models {

DecoderConfig ReadLlama(const formats::Checkpoint& checkpoint) {
  const formats::ConfigReader& config = checkpoint.config();
  DecoderConfig decoder = ReadDecoderConfig(checkpoint);
  decoder.attention.qkv_bias = config.BoolOr("attention_bias", false);
  decoder.attention.o_bias = decoder.attention.qkv_bias;
  decoder.mlp.bias = config.BoolOr("mlp_bias", false);
  return decoder;
}

}  // namespace mach::models
