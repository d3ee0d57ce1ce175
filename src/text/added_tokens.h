// The added_tokens of a tokenizer.json: texts that become one id each before the model sees
// anything. Immutable after construction: any thread may call it.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace mach::text {

struct AddedToken {
  int32_t id = -1;
  std::string content;
  std::string normalized_content;  // content, or its normal form if `normalized`
  bool single_word = false;        // only where no word character touches it
  bool lstrip = false;             // takes the white space before it
  bool rstrip = false;             // takes the white space behind it
  bool normalized = false;         // looked for in the normalised text
  bool special = false;
};

// Finds a set of tokens in a text: the leftmost, of these the longest, without overlaps.
class TokenFinder {
 public:
  struct Found {
    size_t begin;
    size_t end;
    int32_t id;  // -1: text between tokens
  };

  // `text_of` chooses what to look for. No text may be empty or there twice: throws kCorruptFile.
  TokenFinder(const std::vector<const AddedToken*>& tokens, bool use_normalized,
              std::string_view source);

  // Appends parts that cover `text` in order.
  void Find(std::string_view text, std::vector<Found>* parts) const;

  bool empty() const { return tokens_.empty(); }

 private:
  struct Match {
    size_t end;
    const AddedToken* token;
  };

  // The longest token that begins at `at`; token is null if there is none.
  Match LongestAt(std::string_view text, size_t at) const;
  uint32_t Child(uint32_t node, uint8_t byte) const;
  void Insert(std::string_view text, const AddedToken* token, std::string_view source);

  // A trie. Edges in one hash table, keyed by node and byte; node 0 is the root, 0 is no child.
  std::vector<const AddedToken*> tokens_;
  std::vector<const AddedToken*> node_tokens_{nullptr};
  std::unordered_map<uint64_t, uint32_t> edges_;
  std::array<uint32_t, 256> root_children_{};
};

}  // namespace mach::text
