// Rotary frequencies from a checkpoint's configuration, and how far they carry: plain, linear and
// Llama 3 scaling, YaRN.
#pragma once

#include <cstdint>

#include "backend/backend.h"
#include "formats/config.h"

namespace mach::models {

// Reads rope_theta, rope_scaling or rope_parameters below `config`; where both are there,
// rope_scaling holds, as in transformers. `default_rotary_factor` is the part of a head that
// rotates where the file has no partial_rotary_factor. Fields of multimodal rotary embeddings
// (mrope_section) are ignored: for text all their axes are the one position. Unknown scaling types
// are kCorruptFile, naming the field.
// Sources: Hugging Face modeling_rope_utils; YaRN: arXiv 2309.00071.
backend::RopeSpec ReadRope(const formats::ConfigReader& config, int32_t head_dim,
                           double default_rotary_factor);

// The longest context that the rotation is made for, in tokens, as vLLM derives it:
// max_position_embeddings; with linear scaling that times the factor; with YaRN the original length
// times the factor. Configurations with Llama 3 scaling give the extended length as
// max_position_embeddings; where it is no more than the original one, that times the factor.
int64_t ReadMaxContext(const formats::ConfigReader& config);

}  // namespace mach::models
