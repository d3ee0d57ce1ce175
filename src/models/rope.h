// Rotary frequencies from a checkpoint's configuration: plain, linear and Llama 3 scaling, YaRN.
#pragma once

#include "backend/backend.h"
#include "formats/config.h"

namespace mach::models {

// Reads rope_theta, rope_scaling or rope_parameters (and partial_rotary_factor) below `config`.
// Unknown scaling types are kUnsupported, naming the field.
// Sources: Hugging Face modeling_rope_utils; YaRN: arXiv 2309.00071.
backend::RopeSpec ReadRope(const formats::ConfigReader& config, int32_t head_dim);

}  // namespace mach::models
