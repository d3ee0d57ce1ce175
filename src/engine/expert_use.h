// How the chunks of a prompt use the experts of a streamed model.
#pragma once

#include <cstdint>

#include "backend/experts.h"

namespace mach::engine {

// A long chunk needs most experts once and reads past the bank; a short one is worth as much to the
// bank as so many steps of decoding.
inline constexpr int64_t kLongChunkTokens = 32;

// `next` are the tokens of the chunk after it, of whichever prompt; 0 if none comes at once.
inline backend::ExpertUse ExpertUseOfChunk(int64_t tokens, int64_t next) {
  if (tokens < kLongChunkTokens) {
    return backend::ExpertUse::kDecode;
  }
  return next >= kLongChunkTokens ? backend::ExpertUse::kPrefillMore : backend::ExpertUse::kPrefill;
}

}  // namespace mach::engine
