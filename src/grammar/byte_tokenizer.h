// A vocabulary of the 256 bytes and an end token, for looking at grammars byte by byte.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace mach::grammar {

class ByteTokenizer final : public text::Tokenizer {
 public:
  static constexpr int32_t kEnd = 256;

  std::vector<int32_t> Encode(std::string_view text, bool add_special_tokens) const override;
  std::string Decode(std::span<const int32_t> ids, bool skip_special_tokens) const override;
  int32_t vocab_size() const override { return kEnd + 1; }
  std::optional<int32_t> TokenToId(std::string_view token) const override;
  bool IsSpecial(int32_t id) const override { return id == kEnd; }
  std::string TokenBytes(int32_t id) const override;
};

}  // namespace mach::grammar
