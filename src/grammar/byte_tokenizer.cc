#include "grammar/byte_tokenizer.h"

namespace mach::grammar {

std::vector<int32_t> ByteTokenizer::Encode(std::string_view text, bool) const {
  std::vector<int32_t> ids;
  for (const char c : text) {
    ids.push_back(static_cast<unsigned char>(c));
  }
  return ids;
}

std::string ByteTokenizer::Decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
  std::string text;
  for (const int32_t id : ids) {
    text += skip_special_tokens && IsSpecial(id) ? "" : TokenBytes(id);
  }
  return text;
}

std::optional<int32_t> ByteTokenizer::TokenToId(std::string_view token) const {
  if (token == "<end>") {
    return kEnd;
  }
  return token.size() == 1 ? std::optional<int32_t>(static_cast<unsigned char>(token[0]))
                           : std::nullopt;
}

std::string ByteTokenizer::TokenBytes(int32_t id) const {
  if (id == kEnd) {
    return "<end>";
  }
  return id >= 0 && id < kEnd ? std::string(1, static_cast<char>(id)) : "";
}

}  // namespace mach::grammar
