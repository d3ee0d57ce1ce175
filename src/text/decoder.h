// The decoder of a tokenizer.json: tokens to text. Every step works on a stream of tokens and lets
// text go as soon as no later token can change it, so that decoding a whole sequence and decoding
// it piece by piece are the same code. DecoderChain is immutable; a Pipeline belongs to one
// sequence.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace mach::text {

// One step at work. Gets the text of a token in fragments (whole characters), then its end.
class DecodeStep {
 public:
  DecodeStep() = default;
  DecodeStep(const DecodeStep&) = delete;
  DecodeStep& operator=(const DecodeStep&) = delete;
  virtual ~DecodeStep() = default;

  virtual void Text(std::string_view fragment) = 0;
  virtual void EndToken() = 0;
  // No more tokens: hands on what is still held back.
  virtual void Finish() = 0;
};

class DecodePipeline {
 public:
  DecodePipeline() = default;
  DecodePipeline(const DecodePipeline&) = delete;
  DecodePipeline& operator=(const DecodePipeline&) = delete;
  ~DecodePipeline() = default;

  // Both append what became certain to *out.
  void Push(std::string_view token, std::string* out);
  void Finish(std::string* out);

 private:
  friend class DecoderChain;

  std::string text_;
  std::vector<std::unique_ptr<DecodeStep>>
      steps_;  // the last one first; the front is steps_.back()
};

class DecoderChain {
 public:
  // A null field joins tokens with spaces, as `tokenizers` does. Throws kUnsupported naming a type
  // that is not implemented, kCorruptFile for broken fields.
  static DecoderChain FromJson(const nlohmann::json& json, std::string_view source);

  std::unique_ptr<DecodePipeline> NewPipeline() const;

  // The bytes of one token inside running text.
  std::string TokenBytes(std::string_view token) const;

 private:
  // What one configured step does: builds its state, and maps the bytes of a lone token.
  struct Stage {
    std::function<std::unique_ptr<DecodeStep>(DecodeStep* next)> start;
    std::function<void(std::string*)> token_bytes;  // may be empty: leaves them as they are
  };

  void Add(const nlohmann::json& json, std::string_view source);

  std::vector<Stage> stages_;
};

}  // namespace mach::text
