#include "text/added_tokens.h"

#include <algorithm>

#include "base/error.h"
#include "text/unicode.h"

namespace mach::text {

namespace {

// Begin of the character that ends at `end`.
size_t PreviousChar(std::string_view text, size_t end) {
  size_t at = end - 1;
  while (at > 0 && (static_cast<uint8_t>(text[at]) & 0xC0) == 0x80) {
    --at;
  }
  return at;
}

bool EndsWithWord(std::string_view text) {
  return !text.empty() &&
         UnicodeTable::Get()[DecodeAt(text.data() + PreviousChar(text, text.size())).code].IsWord();
}

bool StartsWithWord(std::string_view text) {
  return !text.empty() && UnicodeTable::Get()[DecodeAt(text.data()).code].IsWord();
}

bool IsSpaceAt(std::string_view text, size_t at) {
  return UnicodeTable::Get()[DecodeAt(text.data() + at).code].IsSpace();
}

}  // namespace

TokenFinder::TokenFinder(const std::vector<const AddedToken*>& tokens, bool use_normalized,
                         std::string_view source)
    : tokens_(tokens) {
  for (const AddedToken* token : tokens_) {
    Insert(use_normalized ? token->normalized_content : token->content, token, source);
  }
}

void TokenFinder::Insert(std::string_view text, const AddedToken* token, std::string_view source) {
  if (text.empty()) {
    throw Error(ErrorCode::kCorruptFile, std::string(source) + ": added token \"" + token->content +
                                             "\" is empty after normalisation");
  }
  uint32_t node = 0;
  for (const char c : text) {
    const auto byte = static_cast<uint8_t>(c);
    uint32_t child = Child(node, byte);
    if (child == 0) {
      child = static_cast<uint32_t>(node_tokens_.size());
      node_tokens_.push_back(nullptr);
      if (node == 0) {
        root_children_[byte] = child;
      } else {
        edges_[(static_cast<uint64_t>(node) << 8) | byte] = child;
      }
    }
    node = child;
  }
  if (node_tokens_[node] != nullptr) {
    throw Error(ErrorCode::kCorruptFile, std::string(source) + ": added tokens \"" +
                                             node_tokens_[node]->content + "\" and \"" +
                                             token->content + "\" are the same text");
  }
  node_tokens_[node] = token;
}

uint32_t TokenFinder::Child(uint32_t node, uint8_t byte) const {
  if (node == 0) {
    return root_children_[byte];
  }
  const auto found = edges_.find((static_cast<uint64_t>(node) << 8) | byte);
  return found == edges_.end() ? 0 : found->second;
}

TokenFinder::Match TokenFinder::LongestAt(std::string_view text, size_t at) const {
  Match best{at, nullptr};
  uint32_t node = 0;
  while (at < text.size()) {
    node = Child(node, static_cast<uint8_t>(text[at++]));
    if (node == 0) {
      break;
    }
    if (node_tokens_[node] != nullptr) {
      best = {at, node_tokens_[node]};
    }
  }
  return best;
}

void TokenFinder::Find(std::string_view text, std::vector<Found>* parts) const {
  size_t covered = 0;
  for (size_t at = 0; at < text.size() && !tokens_.empty();) {
    if (root_children_[static_cast<uint8_t>(text[at])] == 0) {
      ++at;
      continue;
    }
    const Match match = LongestAt(text, at);
    if (match.token == nullptr) {
      ++at;
      continue;
    }
    size_t begin = at;
    size_t end = match.end;
    at = match.end;
    if (match.token->single_word &&
        (EndsWithWord(text.substr(0, begin)) || StartsWithWord(text.substr(end)))) {
      continue;  // and nothing else is looked for inside it
    }
    if (match.token->lstrip) {
      while (begin > covered && IsSpaceAt(text, PreviousChar(text, begin))) {
        begin = PreviousChar(text, begin);
      }
      begin = std::max(begin, covered);
    }
    if (match.token->rstrip) {
      while (end < text.size() && IsSpaceAt(text, end)) {
        end += DecodeAt(text.data() + end).size;
      }
    }
    if (covered < begin) {
      parts->push_back({covered, begin, -1});
    }
    parts->push_back({begin, end, match.token->id});
    covered = end;
  }
  if (covered < text.size()) {
    parts->push_back({covered, text.size(), -1});
  }
}

}  // namespace mach::text
