// Causal attention with rotary positions, and its variants: grouped keys, norms of query and key
// heads, biases, an output gate (o_proj(attention * sigmoid(gate)), as in qwen3_5_moe).
#pragma once

#include <memory>

#include "models/block.h"
#include "models/decoder_config.h"
#include "models/weight_loader.h"

namespace mach::models {

// `kv_layer` counts the attention layers before this one.
std::unique_ptr<Block> MakeAttentionBlock(const DecoderConfig& config, WeightLoader& loader,
                                          size_t layer, int32_t kv_layer);

}  // namespace mach::models
