// How the chunks of a prompt use the experts of a streamed model.
#pragma once

#include <cstdint>

#include "backend/experts.h"

namespace mach::engine {

// A long chunk needs most experts once and reads past the bank; a short one is worth as much to the
// bank as so many steps of decoding.
inline constexpr int64_t kLongChunkTokens = 32;

inline backend::ExpertUse ExpertUseOfChunk(int64_t tokens) {
  return tokens >= kLongChunkTokens ? backend::ExpertUse::kPrefill : backend::ExpertUse::kDecode;
}

}  // namespace mach::engine
