// The registered families, one source file each: what config.json and the tensor names of a
// checkpoint say, as a decoder to build. They read headers, never weights.
#pragma once

#include "formats/checkpoint.h"
#include "models/decoder_config.h"

namespace mach::models {

DecoderConfig ReadLlama(const formats::Checkpoint& checkpoint);
DecoderConfig ReadQwen2(const formats::Checkpoint& checkpoint);
DecoderConfig ReadQwen3(const formats::Checkpoint& checkpoint);
DecoderConfig ReadQwen3Moe(const formats::Checkpoint& checkpoint);
DecoderConfig ReadQwen35Moe(const formats::Checkpoint& checkpoint);

}  // namespace mach::models
