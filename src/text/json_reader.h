// A small pull reader for JSON: made for tokenizer.json, whose vocabulary and merges are too many
// to build a tree of. The text must be valid UTF-8 and outlive the reader. Not thread-safe. Every
// member throws kCorruptFile, naming the source and the byte, where the text is not JSON.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace mach::text {

class JsonReader {
 public:
  JsonReader(std::string_view text, std::string_view source) : text_(text), source_(source) {}

  // The next character that is not white space; 0 at the end.
  char Peek();
  void Expect(char c);
  bool TryConsume(char c);
  // After '[' or '{' and after each element: is there another? Consumes ',' or the closer.
  bool NextElement(char closer, bool* first);

  // A string's contents: a view of the text, or of `scratch` where there are escapes.
  std::string_view String(std::string* scratch);
  // A whole number of 0 to 2^32-1.
  uint32_t Unsigned();
  // Skips one value of any kind and returns its text. At most kMaxDepth levels deep.
  std::string_view RawValue();
  // Nothing but white space may follow.
  void ExpectEnd();

  [[noreturn]] void Fail(const std::string& problem) const;

  static constexpr int kMaxDepth = 64;

 private:
  void SkipString();
  void Unescape(std::string* out);
  uint32_t HexQuad();

  std::string_view text_;
  std::string_view source_;
  size_t at_ = 0;
};

}  // namespace mach::text
