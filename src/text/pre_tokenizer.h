// The pre_tokenizer of a tokenizer.json: cuts normalised text into the words that the model sees,
// and may rewrite them on the way. Immutable: any thread may call it, each with its own PreTokens.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "text/pattern.h"

namespace mach::text {

struct Span {
  uint32_t begin;
  uint32_t end;
};

// The text of one piece between added tokens and its words so far. Borrows the text it was given
// until a step rewrites it.
class PreTokens {
 public:
  // `at_origin`: the piece begins where the whole input begins.
  void Reset(std::string_view text, bool at_origin);

  std::string_view text() const { return text_; }
  const std::vector<Span>& spans() const { return spans_; }
  std::string_view Word(const Span& span) const {
    return text_.substr(span.begin, span.end - span.begin);
  }
  bool IsOrigin(const Span& span) const { return at_origin_ && span.begin == 0; }

  // Replaces every word by the words that `split` appends; empty ones are dropped.
  // split(word, pieces) appends pieces relative to the word; is_match is not looked at.
  template <typename SplitWord>
  void SplitEach(const SplitWord& split);

  // Replaces every word's text by what `rewrite(span, word, out)` appends to *out.
  template <typename Rewrite>
  void RewriteEach(const Rewrite& rewrite);

 private:
  std::string_view text_;
  std::string storage_;
  std::vector<Span> spans_;
  std::vector<Span> next_spans_;
  std::vector<Piece> pieces_;
  bool at_origin_ = false;
};

class PreTokenizer {
 public:
  PreTokenizer() = default;
  PreTokenizer(const PreTokenizer&) = delete;
  PreTokenizer& operator=(const PreTokenizer&) = delete;
  virtual ~PreTokenizer() = default;

  virtual void Apply(PreTokens* tokens) const = 0;
};

// All steps in order.
struct PreTokenizerChain {
  std::vector<std::unique_ptr<PreTokenizer>> steps;
  // The last step maps bytes to the byte-level alphabet, and no other does: the map has been left
  // out, and the words are raw bytes for a model that reads them through the alphabet itself.
  bool words_are_bytes = false;

  // `defer_bytes`: leave out that map where possible. Throws kUnsupported or kCorruptFile.
  static PreTokenizerChain FromJson(const nlohmann::json& json, std::string_view source,
                                    bool defer_bytes);
};

}  // namespace mach::text
