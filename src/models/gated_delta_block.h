// A Gated DeltaNet layer: projections, then convolution, delta rule and gated norm in one backend
// operation, then the output projection.
// Sources: arXiv 2412.06464; Hugging Face modeling_qwen3_5_moe, Qwen3_5MoeGatedDeltaNet.
#pragma once

#include <memory>

#include "models/block.h"
#include "models/decoder_config.h"
#include "models/weight_loader.h"

namespace mach::models {

// `recurrent_layer` counts the gated-delta layers before this one.
std::unique_ptr<Block> MakeGatedDeltaBlock(const DecoderConfig& config, WeightLoader& loader,
                                           size_t layer, int32_t recurrent_layer);

}  // namespace mach::models
