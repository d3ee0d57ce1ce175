// The text of one choice as it may be shown: detokenised, whole characters, cut at stop strings.
// Holds back the longest tail that may still become a stop string. Not thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace mach::decode {

class TextStream {
 public:
  // `prompt` is what the text continues: decoders of the SentencePiece kind drop the space before
  // the first word of a text, and the first generated token is not that.
  TextStream(const text::Tokenizer& tokenizer, std::span<const int32_t> prompt, bool show_special,
             std::vector<std::string> stop_strings, bool include_stop_string);

  // Appends a token and returns the text that became certain. With `may_stop` false stop strings
  // are let pass (min_tokens). After a match stop() is set and nothing more comes.
  std::string Push(int32_t token, bool may_stop);
  // The rest, at the end of generation; a stop string completed by it counts.
  std::string Finish();

  const std::optional<std::string>& stop() const { return stop_; }
  // Bytes decoded, and bytes shown, since the start. Without a stop, shown <= decoded.
  uint64_t decoded_bytes() const { return decoded_bytes_; }
  uint64_t shown_bytes() const { return shown_bytes_; }

 private:
  void ReadPrompt(const text::Tokenizer& tokenizer, std::span<const int32_t> prompt,
                  bool show_special);
  void Append(std::string piece);
  std::string Release(bool may_stop, bool at_end);

  text::StreamDecoder decoder_;
  std::string prompt_rest_;  // text of the prompt that the decoder still holds back
  std::vector<std::string> stop_strings_;
  bool include_stop_string_;
  std::string pending_;
  std::optional<std::string> stop_;
  uint64_t decoded_bytes_ = 0;
  uint64_t shown_bytes_ = 0;
};

}  // namespace mach::decode
