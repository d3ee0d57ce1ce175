#include "decode/after_token.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace mach::decode {

AfterToken::AfterToken(std::unique_ptr<Constraint> then, StartMarkers markers,
                       const text::Tokenizer* tokenizer)
    : then_(std::move(then)), markers_(std::move(markers)), tokenizer_(tokenizer) {
  MACH_CHECK(markers_.texts.empty() || tokenizer_ != nullptr);
  for (const std::string& text : markers_.texts) {
    longest_ = std::max(longest_, text.size());
  }
}

AfterToken::Begins AfterToken::Look(int32_t token, std::string& tail) const {
  const auto has = [token](const std::vector<int32_t>& tokens) {
    return std::find(tokens.begin(), tokens.end(), token) != tokens.end();
  };
  if (has(markers_.tokens)) {
    return Begins::kAfter;
  }
  if (has(markers_.included)) {
    return Begins::kWith;
  }
  if (markers_.texts.empty()) {
    return Begins::kNot;
  }
  tail += tokenizer_->TokenBytes(token);
  for (const std::string& text : markers_.texts) {
    if (tail.find(text) != std::string::npos) {
      return Begins::kAfter;
    }
  }
  if (tail.size() >= longest_) {
    tail.erase(0, tail.size() - longest_ + 1);
  }
  return Begins::kNot;
}

bool AfterToken::FillMask(TokenMask& mask) {
  return begun_ && then_->FillMask(mask);
}

void AfterToken::Accept(int32_t token) {
  if (begun_) {
    then_->Accept(token);
    return;
  }
  const Begins begins = Look(token, tail_);
  begun_ = begins != Begins::kNot;
  if (begins == Begins::kWith) {
    then_->Accept(token);
  }
}

size_t AfterToken::ValidPrefix(std::span<const int32_t> tokens) {
  if (begun_) {
    return then_->ValidPrefix(tokens);
  }
  std::string tail = tail_;
  for (size_t i = 0; i < tokens.size(); ++i) {
    switch (Look(tokens[i], tail)) {
      case Begins::kNot:
        break;
      case Begins::kAfter:
        return i + 1 + then_->ValidPrefix(tokens.subspan(i + 1));
      case Begins::kWith:
        return i + then_->ValidPrefix(tokens.subspan(i));
    }
  }
  return tokens.size();
}

std::vector<int32_t> AfterToken::Forced() {
  return begun_ ? then_->Forced() : std::vector<int32_t>();
}

bool AfterToken::Done() {
  return begun_ && then_->Done();
}

}  // namespace mach::decode
