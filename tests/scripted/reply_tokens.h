// A reply as a model would write it, and how likely each token is at a place in it. Immutable; any
// thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/tokenizer.h"

namespace mach::testing {

// The bytes of all tokens of a vocabulary.
class TokenTable {
 public:
  explicit TokenTable(const text::Tokenizer& tokenizer);

  const std::string& BytesOf(int32_t token) const { return bytes_[static_cast<size_t>(token)]; }
  bool IsAdded(int32_t token) const { return added_[static_cast<size_t>(token)]; }
  int32_t size() const { return static_cast<int32_t>(bytes_.size()); }

  // Calls f(token) for the ordinary tokens that `text` begins with, the shortest first.
  template <typename F>
  void ForPrefixes(std::string_view text, const F& f) const {
    for (size_t length = 1; length <= std::min(longest_, text.size()); ++length) {
      if (const auto it = by_bytes_.find(text.substr(0, length)); it != by_bytes_.end()) {
        f(it->second);
      }
    }
  }

 private:
  std::vector<std::string> bytes_;
  std::vector<bool> added_;
  std::unordered_map<std::string_view, int32_t> by_bytes_;  // of ordinary tokens
  size_t longest_ = 0;
};

class ReplyTokens {
 public:
  // The table outlives the object.
  ReplyTokens(const TokenTable& table, std::span<const int32_t> tokens, int32_t end_token);

  // Where the reply has got to by `token`, `at` bytes having been said.
  size_t After(size_t at, int32_t token) const;
  // Adds to `logits` [vocab], all zero, how likely tokens are after `at` bytes.
  void Score(size_t at, std::span<float> logits) const;

 private:
  const TokenTable& table_;
  const int32_t end_token_;
  std::string bytes_;
  std::vector<int32_t> tokens_;
  std::vector<int32_t> token_at_;  // that begins at this byte; -1 = none
  std::vector<size_t> begin_;      // of each token
};

}  // namespace mach::testing
