// Rotary frequencies from a checkpoint's configuration: plain, linear and Llama 3 scaling, YaRN.
#pragma once

#include "backend/backend.h"
#include "formats/config.h"

namespace mach::models {

// Reads rope_theta, rope_scaling or rope_parameters below `config`. `default_rotary_factor` is the
// part of a head that rotates where the file has no partial_rotary_factor. Fields of multimodal
// rotary embeddings (mrope_section) are ignored: for text all their axes are the one position.
// Unknown scaling types are kCorruptFile, naming the field.
// Sources: Hugging Face modeling_rope_utils; YaRN: arXiv 2309.00071.
backend::RopeSpec ReadRope(const formats::ConfigReader& config, int32_t head_dim,
                           double default_rotary_factor);

}  // namespace mach::models
