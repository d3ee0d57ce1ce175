// The pre-norm decoder that all families share: embedding, layers of a mixer and a feed-forward,
// final norm, output layer. What a layer is made of is the family's to say (decoder_config.h).
#pragma once

#include <memory>

#include "models/decoder_config.h"
#include "models/loader.h"
#include "models/model.h"

namespace mach::models {

// Throws mach::Error naming file, tensor and shapes; kCorruptFile if the experts of `context` are
// of another model.
std::unique_ptr<Model> MakeDecoder(const LoadContext& context, const DecoderConfig& config);

}  // namespace mach::models
