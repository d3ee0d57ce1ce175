// Text to token ids and back, exactly as Hugging Face `tokenizers` does it for the same
// tokenizer.json: byte-level BPE, and BPE with byte fallback as SentencePiece models ship it.
// Not here: chat templates (jinja/chat_template.h) and reading tokenizer data out of GGUF
// (formats/). Immutable after construction: any thread may call any const member.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mach::text {

class Tokenizer {
 public:
  // `json` is the contents of a tokenizer.json, `source` its path for messages. Throws kCorruptFile
  // (not a tokenizer.json, inconsistent) or kUnsupported (a component not implemented; it is
  // named).
  static std::unique_ptr<Tokenizer> FromJson(std::string_view json, std::string_view source);

  virtual ~Tokenizer() = default;

  // `text` need not be valid UTF-8: broken sequences become U+FFFD, as Python's errors="replace"
  // does before `tokenizers` sees them. Special and added tokens in the text are recognised.
  // `add_special_tokens` runs the post-processor (BOS and its kind); chat prompts render their own.
  virtual std::vector<int32_t> Encode(std::string_view text, bool add_special_tokens) const = 0;

  // Equal to `tokenizers`' decode. Ids without an entry decode to nothing.
  virtual std::string Decode(std::span<const int32_t> ids, bool skip_special_tokens) const = 0;

  // One past the largest id that has an entry.
  virtual int32_t vocab_size() const = 0;
  virtual std::optional<int32_t> TokenToId(std::string_view token) const = 0;
  virtual bool IsSpecial(int32_t id) const = 0;
  // One of the added tokens, special or not: it came as a whole, and stands for its text as such.
  virtual bool IsAdded(int32_t id) const { return IsSpecial(id); }

  // The bytes that `id` stands for within running text (may be part of a character); the literal
  // content for added tokens; empty for ids without an entry.
  virtual std::string TokenBytes(int32_t id) const = 0;

  // The state of decoding one growing sequence, for StreamDecoder. Must not outlive the tokenizer.
  class Decoding {
   public:
    Decoding() = default;
    Decoding(const Decoding&) = delete;
    Decoding& operator=(const Decoding&) = delete;
    virtual ~Decoding() = default;

    // Append the text that became certain; never a part of a character.
    virtual void Push(int32_t id, std::string* out) = 0;
    virtual void Finish(std::string* out) = 0;
  };
  // The default joins TokenBytes; right only if Decode does nothing else.
  virtual std::unique_ptr<Decoding> StartDecoding(bool skip_special_tokens) const;
};

// Decodes a growing sequence of ids piece by piece. The pieces joined equal Tokenizer::Decode of
// the whole sequence; no piece ends inside a character. One per sequence; not thread-safe.
class StreamDecoder {
 public:
  StreamDecoder(const Tokenizer& tokenizer, bool skip_special_tokens);
  StreamDecoder(const StreamDecoder&) = delete;
  StreamDecoder& operator=(const StreamDecoder&) = delete;
  ~StreamDecoder();

  // The text that became certain with this id; may be empty.
  std::string Push(int32_t id);
  // What is still held back; broken bytes become U+FFFD. The decoder is empty afterwards.
  std::string Finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace mach::text
