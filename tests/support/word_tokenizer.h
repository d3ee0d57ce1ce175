// A tokenizer for tests whose token i is a piece of text that the test chose.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace mach::testing_support {

class WordTokenizer final : public text::Tokenizer {
 public:
  // Pieces in [0, special_from) are text, the others special.
  explicit WordTokenizer(std::vector<std::string> pieces, int32_t special_from = 1 << 30)
      : pieces_(std::move(pieces)), special_from_(special_from) {}

  std::vector<int32_t> Encode(std::string_view text, bool) const override {
    std::vector<int32_t> ids;
    while (!text.empty()) {  // longest piece first
      int32_t best = -1;
      for (size_t i = 0; i < pieces_.size(); ++i) {
        if (!pieces_[i].empty() && text.starts_with(pieces_[i]) &&
            (best < 0 || pieces_[i].size() > pieces_[static_cast<size_t>(best)].size())) {
          best = static_cast<int32_t>(i);
        }
      }
      if (best < 0) {
        text.remove_prefix(1);
        continue;
      }
      ids.push_back(best);
      text.remove_prefix(pieces_[static_cast<size_t>(best)].size());
    }
    return ids;
  }
  std::string Decode(std::span<const int32_t> ids, bool skip_special_tokens) const override {
    std::string text;
    for (const int32_t id : ids) {
      text += skip_special_tokens && IsSpecial(id) ? "" : TokenBytes(id);
    }
    return text;
  }
  int32_t vocab_size() const override { return static_cast<int32_t>(pieces_.size()); }
  std::optional<int32_t> TokenToId(std::string_view token) const override {
    const auto it = std::find(pieces_.begin(), pieces_.end(), token);
    return it == pieces_.end() ? std::nullopt
                               : std::optional(static_cast<int32_t>(it - pieces_.begin()));
  }
  bool IsSpecial(int32_t id) const override { return id >= special_from_; }
  std::string TokenBytes(int32_t id) const override {
    return id >= 0 && id < vocab_size() ? pieces_[static_cast<size_t>(id)] : "";
  }

 private:
  std::vector<std::string> pieces_;
  int32_t special_from_;
};

}  // namespace mach::testing_support
