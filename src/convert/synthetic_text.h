// The small files of a synthetic checkpoint: config.json, a tokenizer in which every token id is
// text, and a chat template. Private to convert/.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "convert/convert_plan.h"
#include "convert/synthetic.h"

namespace mach::convert {

// Ids: 0..255 are the bytes, then <|endoftext|>, <|im_start|>, <|im_end|>; all others are words of
// three syllables after a space.
inline constexpr int64_t kSyntheticEndOfText = 256;
inline constexpr int64_t kSyntheticMessageStart = 257;
inline constexpr int64_t kSyntheticMessageEnd = 258;
inline constexpr int64_t kSyntheticFirstWord = 259;
inline constexpr int64_t kSyntheticMaxVocab = kSyntheticFirstWord + (int64_t{1} << 18);

// `routers` are the modules that have 8 bits in groups of 64.
std::vector<SmallFile> SyntheticTextFiles(const SyntheticOptions& options,
                                          const std::vector<std::string>& routers);

}  // namespace mach::convert
