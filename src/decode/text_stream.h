// The text of one choice as it may be shown: detokenised, whole characters, cut at stop strings.
// Holds back the longest tail that may still become a stop string. Added tokens are pieces of
// their own; where special ones are not shown, stop strings match the text as if they were not
// there. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "decode/text_piece.h"
#include "text/tokenizer.h"

namespace mach::decode {

class TextStream {
 public:
  // `prompt` is what the text continues: decoders of the SentencePiece kind drop the space before
  // the first word of a text, and the first generated token is not that. The tokenizer outlives the
  // object.
  TextStream(const text::Tokenizer& tokenizer, std::span<const int32_t> prompt, bool show_special,
             std::vector<std::string> stop_strings, bool include_stop_string);

  // Appends a token and returns what became certain. With `may_stop` false stop strings are let
  // pass (min_tokens). After a match stop() is set and nothing more comes.
  std::vector<TextPiece> Push(int32_t token, bool may_stop);
  // The rest, at the end of generation; a stop string completed by it counts.
  std::vector<TextPiece> Finish();

  const std::optional<std::string>& stop() const { return stop_; }
  // Bytes decoded, and bytes shown, since the start; of special tokens only where they are shown.
  // Without a stop, shown <= decoded.
  uint64_t decoded_bytes() const { return decoded_bytes_; }
  uint64_t shown_bytes() const { return shown_bytes_; }

 private:
  // An added token at `begin` of `pending_`, of which it takes `bytes`: none if it is not shown.
  struct Mark {
    size_t begin;
    size_t bytes;
    TextPiece piece;
  };

  void ReadPrompt(std::span<const int32_t> prompt);
  void Append(std::string piece);
  std::vector<TextPiece> Release(bool may_stop, bool at_end);
  // How much of `pending_` may be shown.
  size_t Certain(bool may_stop, bool at_end);
  std::vector<TextPiece> Take(size_t shown);

  const text::Tokenizer& tokenizer_;
  const bool show_special_;
  text::StreamDecoder decoder_;
  std::string prompt_rest_;  // text of the prompt that the decoder still holds back
  std::vector<std::string> stop_strings_;
  bool include_stop_string_;
  std::string pending_;
  std::deque<Mark> marks_;  // in order
  std::optional<std::string> stop_;
  uint64_t decoded_bytes_ = 0;
  uint64_t shown_bytes_ = 0;
};

}  // namespace mach::decode
