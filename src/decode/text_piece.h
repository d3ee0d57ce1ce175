// A piece of what a model says: ordinary text, or one added token where it stands, so that a reader
// can tell a marker from the same characters spelled by ordinary tokens.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace mach::decode {

struct TextPiece {
  std::string text;
  std::optional<int32_t> token;  // the added token that `text` spells
  bool special = false;          // one that is left out of what a reader sees

  friend bool operator==(const TextPiece&, const TextPiece&) = default;
};

// What the pieces read, with their special tokens or without.
inline std::string JoinPieces(std::span<const TextPiece> pieces, bool with_special) {
  std::string text;
  for (const TextPiece& piece : pieces) {
    if (with_special || !piece.special) {
      text += piece.text;
    }
  }
  return text;
}

}  // namespace mach::decode
