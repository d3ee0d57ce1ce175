#include "tests/scripted/reply_tokens.h"

#include <algorithm>

namespace mach::testing {
namespace {

// Further apart than Gumbel noise reaches (40.4) at a temperature of 2.
constexpr float kScripted = 300;
constexpr float kBeginning = 200;  // of what remains
constexpr float kFurtherOn = 100;
constexpr float kEnd = 10;

}  // namespace

TokenTable::TokenTable(const text::Tokenizer& tokenizer) {
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    bytes_.push_back(tokenizer.TokenBytes(id));
    added_.push_back(tokenizer.IsAdded(id));
  }
  for (int32_t id = 0; id < size(); ++id) {
    if (!IsAdded(id) && !BytesOf(id).empty()) {
      by_bytes_.emplace(BytesOf(id), id);
      longest_ = std::max(longest_, BytesOf(id).size());
    }
  }
}

ReplyTokens::ReplyTokens(const TokenTable& table, std::span<const int32_t> tokens,
                         int32_t end_token)
    : table_(table), end_token_(end_token), tokens_(tokens.begin(), tokens.end()) {
  for (const int32_t token : tokens_) {
    begin_.push_back(bytes_.size());
    token_at_.resize(bytes_.size() + 1, -1);
    token_at_.back() = token;
    bytes_ += table_.BytesOf(token);
  }
  token_at_.resize(bytes_.size() + 1, -1);
}

size_t ReplyTokens::After(size_t at, int32_t token) const {
  if (token == end_token_) {
    return 0;
  }
  if (at == bytes_.size()) {
    at = 0;
  }
  const std::string& bytes = table_.BytesOf(token);
  if (std::string_view(bytes_).substr(at).starts_with(bytes)) {
    return at + bytes.size();
  }
  const auto next = std::ranges::lower_bound(begin_, at) - begin_.begin();
  const auto found = std::find(tokens_.begin() + next, tokens_.end(), token);
  return found == tokens_.end()
             ? at
             : begin_[static_cast<size_t>(found - tokens_.begin())] + bytes.size();
}

void ReplyTokens::Score(size_t at, std::span<float> logits) const {
  const auto raise = [logits](int32_t token, float score) {
    float& logit = logits[static_cast<size_t>(token)];
    logit = std::max(logit, score);
  };
  const bool over = at == bytes_.size();
  raise(end_token_, over ? kScripted : kEnd);
  if (over && !tokens_.empty()) {
    raise(tokens_.front(), kFurtherOn);
    return;
  }
  const int32_t scripted = token_at_[at];
  if (scripted >= 0) {
    raise(scripted, kScripted);
  }
  if (scripted < 0 || !table_.IsAdded(scripted)) {
    table_.ForPrefixes(std::string_view(bytes_).substr(at), [&](int32_t token) {
      raise(token, kBeginning + static_cast<float>(table_.BytesOf(token).size()));
    });
  }
  float score = kFurtherOn;
  for (auto next = std::ranges::upper_bound(begin_, at); next != begin_.end(); ++next) {
    raise(tokens_[static_cast<size_t>(next - begin_.begin())], score);
    score = std::max(kFurtherOn / 2, score - 0.25F);
  }
}

}  // namespace mach::testing
