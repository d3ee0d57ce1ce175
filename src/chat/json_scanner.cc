#include "chat/json_scanner.h"

namespace mach::chat {
namespace {

constexpr size_t kMaxDepth = 256;

bool IsSpace(char c) {
  return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

bool IsDigit(char c) {
  return c >= '0' && c <= '9';
}

bool IsHexDigit(char c) {
  return IsDigit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

}  // namespace

JsonScanner::Status JsonScanner::Feed(char c) {
  mark_ = Mark::kNone;
  number_ended_before_ = false;
  comma_too_many_ = false;
  switch (state_) {
    case State::kDone:
      return Status::kDoneBefore;
    case State::kString:
    case State::kEscape:
    case State::kHex:
      return Inside(c);
    case State::kLiteral:
      if (c != literal_.front()) {
        return Status::kBroken;
      }
      literal_.remove_prefix(1);
      return literal_.empty() ? Close(Mark::kValueClose) : Status::kMore;
    case State::kMinus:
    case State::kZero:
    case State::kInteger:
    case State::kPoint:
    case State::kFraction:
    case State::kExponent:
    case State::kExponentSign:
    case State::kExponentDigits:
      return Number(c);
    default:
      break;
  }
  if (IsSpace(c)) {
    return Status::kMore;
  }
  switch (state_) {
    case State::kFirstItem:
    case State::kNextItem:
      if (c == ']') {
        comma_too_many_ = state_ == State::kNextItem;
        return CloseContainer();
      }
      return Open(c);
    case State::kFirstKey:
    case State::kNextKey:
      if (c == '}') {
        comma_too_many_ = state_ == State::kNextKey;
        return CloseContainer();
      }
      if (c != '"') {
        return Status::kBroken;
      }
      in_key_ = true;
      mark_ = Mark::kStringOpen;
      state_ = State::kString;
      return Status::kMore;
    case State::kColon:
      state_ = State::kValue;
      return c == ':' ? Status::kMore : Status::kBroken;
    case State::kAfterValue:
      return AfterValue(c);
    default:
      return Open(c);
  }
}

JsonScanner::Status JsonScanner::Open(char c) {
  mark_ = Mark::kValueOpen;
  switch (c) {
    case '{':
    case '[':
      if (open_.size() >= kMaxDepth) {
        return Status::kBroken;
      }
      open_.push_back(c);
      state_ = c == '{' ? State::kFirstKey : State::kFirstItem;
      return Status::kMore;
    case '"':
      mark_ = Mark::kStringOpen;
      in_key_ = false;
      state_ = State::kString;
      return Status::kMore;
    case 't':
      literal_ = "rue";
      break;
    case 'f':
      literal_ = "alse";
      break;
    case 'n':
      literal_ = "ull";
      break;
    case '-':
      state_ = State::kMinus;
      return Status::kMore;
    default:
      if (!IsDigit(c)) {
        return Status::kBroken;
      }
      state_ = c == '0' ? State::kZero : State::kInteger;
      return Status::kMore;
  }
  state_ = State::kLiteral;
  return Status::kMore;
}

JsonScanner::Status JsonScanner::Close(Mark mark) {
  mark_ = mark;
  state_ = open_.empty() ? State::kDone : State::kAfterValue;
  return open_.empty() ? Status::kDone : Status::kMore;
}

JsonScanner::Status JsonScanner::CloseContainer() {
  open_.pop_back();
  return Close(Mark::kValueClose);
}

JsonScanner::Status JsonScanner::AfterValue(char c) {
  const bool object = open_.back() == '{';
  if (c == ',') {
    state_ = object ? State::kNextKey : State::kNextItem;
    return Status::kMore;
  }
  if (c == closing_bracket()) {
    return CloseContainer();
  }
  return Status::kBroken;
}

JsonScanner::Status JsonScanner::Number(char c) {
  const State now = state_;
  if (IsDigit(c)) {
    state_ = now == State::kMinus   ? (c == '0' ? State::kZero : State::kInteger)
             : now == State::kPoint ? State::kFraction
             : now == State::kExponent || now == State::kExponentSign ? State::kExponentDigits
                                                                      : now;
    return now == State::kZero ? Status::kBroken : Status::kMore;
  }
  const bool whole = now == State::kZero || now == State::kInteger;
  if (c == '.' && whole) {
    state_ = State::kPoint;
    return Status::kMore;
  }
  if ((c == 'e' || c == 'E') && (whole || now == State::kFraction)) {
    state_ = State::kExponent;
    return Status::kMore;
  }
  if ((c == '+' || c == '-') && now == State::kExponent) {
    state_ = State::kExponentSign;
    return Status::kMore;
  }
  if (!whole && now != State::kFraction && now != State::kExponentDigits) {
    return Status::kBroken;
  }
  if (open_.empty()) {
    state_ = State::kDone;
    return Status::kDoneBefore;
  }
  state_ = State::kAfterValue;
  const Status status = IsSpace(c) ? Status::kMore : AfterValue(c);
  number_ended_before_ = status != Status::kBroken;
  return status;
}

JsonScanner::Status JsonScanner::Inside(char c) {
  if (state_ == State::kHex) {
    if (!IsHexDigit(c)) {
      return Status::kBroken;
    }
    state_ = --hex_left_ > 0 ? State::kHex : State::kString;
    return Status::kMore;
  }
  if (state_ == State::kEscape) {
    constexpr std::string_view kEscapes = "\"\\/bfnrt";
    if (c == 'u') {
      hex_left_ = 4;
      state_ = State::kHex;
      return Status::kMore;
    }
    state_ = State::kString;
    return kEscapes.find(c) != std::string_view::npos ? Status::kMore : Status::kBroken;
  }
  if (c == '\\') {
    state_ = State::kEscape;
    return Status::kMore;
  }
  if (c != '"') {
    return Status::kMore;
  }
  if (!in_key_) {
    return Close(Mark::kStringClose);
  }
  mark_ = Mark::kStringClose;
  state_ = State::kColon;
  return Status::kMore;
}

}  // namespace mach::chat
