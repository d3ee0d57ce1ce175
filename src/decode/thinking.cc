#include "decode/thinking.h"

#include <utility>

namespace mach::decode {

Thinking::Thinking(ThinkingSpec spec, std::unique_ptr<Constraint> then)
    : spec_(std::move(spec)),
      then_(std::move(then)),
      state_(spec_.open         ? State::kOpen
             : spec_.open_token ? State::kMayOpen
                                : State::kClosed) {}

std::optional<int32_t> Thinking::Closing() const {
  const bool over = state_ == State::kOpen && spec_.budget && used_ >= *spec_.budget;
  const bool begun = closing_at_ > 0 && closing_at_ < spec_.closing.size();
  return over || begun ? std::optional(spec_.closing.at(closing_at_)) : std::nullopt;
}

bool Thinking::FillMask(TokenMask& mask) {
  if (const auto token = Closing()) {
    mask.assign(MaskWords(static_cast<size_t>(spec_.vocab_size)), 0);
    mask[static_cast<size_t>(*token) / 32] |= 1U << (static_cast<uint32_t>(*token) % 32);
    return true;
  }
  if (state_ == State::kOpen || then_ == nullptr || !then_->FillMask(mask)) {
    return false;
  }
  if (state_ == State::kMayOpen) {
    const auto token = static_cast<uint32_t>(*spec_.open_token);
    mask[token / 32] |= 1U << (token % 32);
  }
  return true;
}

void Thinking::Accept(int32_t token) {
  if (const auto closing = Closing()) {
    closing_at_ = token == *closing ? closing_at_ + 1 : spec_.closing.size();
    state_ = token == spec_.close_token ? State::kClosed : state_;
    return;
  }
  switch (state_) {
    case State::kMayOpen:
      state_ = token == *spec_.open_token ? State::kOpen : State::kClosed;
      break;
    case State::kOpen:
      ++used_;
      state_ = token == spec_.close_token ? State::kClosed : State::kOpen;
      return;
    case State::kClosed:
      break;
  }
  if (state_ == State::kClosed && then_ != nullptr) {
    then_->Accept(token);
  }
}

size_t Thinking::ValidPrefix(std::span<const int32_t> tokens) {
  if (const auto closing = Closing()) {
    return !tokens.empty() && tokens.front() == *closing ? 1 : 0;
  }
  if (state_ == State::kClosed && then_ != nullptr) {
    return then_->ValidPrefix(tokens);
  }
  // How it goes on behind a border is known when the border has been accepted.
  if (state_ == State::kMayOpen && !tokens.empty() && tokens.front() != *spec_.open_token) {
    return then_ != nullptr ? then_->ValidPrefix(tokens) : tokens.size();
  }
  for (size_t i = 0; state_ != State::kClosed && i < tokens.size(); ++i) {
    const bool spent = spec_.budget && used_ + static_cast<int64_t>(i) >=
                                           *spec_.budget + (state_ == State::kMayOpen);
    if (spent || tokens[i] == spec_.close_token) {
      return spent ? i : i + 1;
    }
  }
  return tokens.size();
}

std::vector<int32_t> Thinking::Forced() {
  if (Closing()) {
    return {spec_.closing.begin() + static_cast<std::ptrdiff_t>(closing_at_), spec_.closing.end()};
  }
  return state_ == State::kClosed && then_ != nullptr ? then_->Forced() : std::vector<int32_t>();
}

bool Thinking::Done() {
  return !Closing() && state_ == State::kClosed && then_ != nullptr && then_->Done();
}

}  // namespace mach::decode
