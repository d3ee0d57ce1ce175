// qwen2: biases on q, k and v and nowhere else. Covers Qwen2 and Qwen2.5.
#include "models/families.h"

namespace mach::models {

DecoderConfig ReadQwen2(const formats::Checkpoint& checkpoint) {
  RequireFullAttention(checkpoint.config());
  DecoderConfig decoder = ReadDecoderConfig(checkpoint);
  decoder.attention.qkv_bias = true;
  return decoder;
}

}  // namespace mach::models
