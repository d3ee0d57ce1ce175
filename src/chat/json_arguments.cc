#include "chat/json_arguments.h"

#include <utility>

#include "base/json_string.h"
#include "chat/value_typing.h"

namespace mach::chat {
namespace {

// Half of a pair that only together is a character: \uD800 to \uDBFF.
bool IsHighSurrogate(const std::string& escape) {
  return escape.size() == 6 && (escape[2] == 'd' || escape[2] == 'D') &&
         (escape[3] == '8' || escape[3] == '9' || escape[3] == 'a' || escape[3] == 'A' ||
          escape[3] == 'b' || escape[3] == 'B');
}

// A character of a string as JSON wants it: line breaks that the model did not escape are escaped.
void AppendStringCharacter(std::string& out, char c) {
  if (static_cast<unsigned char>(c) >= 0x20) {
    out += c;
    return;
  }
  std::string quoted;
  AppendJsonString(quoted, std::string_view(&c, 1));
  out.append(quoted, 1, quoted.size() - 2);
}

}  // namespace

JsonArguments::Status JsonArguments::Feed(char c) {
  const bool in_string = scanner_.in_string();
  const Status status = scanner_.Feed(c);
  if (status == Status::kDoneBefore) {
    return status;
  }
  if (!started_) {
    if (scanner_.mark() == JsonScanner::Mark::kNone && status != Status::kBroken) {
      return status;  // whitespace before the value
    }
    started_ = true;
    object_ = c == '{';
    if (object_) {
      ready_ += c;
      return status;
    }
  }
  if (status == Status::kBroken) {
    held_ += std::exchange(escape_, "");
    held_ += c;
    return status;
  }
  if (scanner_.comma_too_many()) {
    DropComma();
  }
  if (!object_) {
    in_string ? AppendStringCharacter(held_, c) : held_.push_back(c);
    return status;
  }
  if (in_member_string_) {
    FeedString(c);
  } else {
    FeedObject(c);
  }
  return status;
}

void JsonArguments::FeedObject(char c) {
  using Mark = JsonScanner::Mark;
  if (scanner_.number_ended_before() &&
      scanner_.depth() == (scanner_.mark() == Mark::kValueClose ? 0 : 1)) {
    Flush();
  }
  if (scanner_.in_string() && scanner_.mark() != Mark::kStringOpen) {
    AppendStringCharacter(held_, c);
  } else {
    held_ += c;
  }
  if (scanner_.mark() == Mark::kStringOpen && !scanner_.in_key() && scanner_.depth() == 1) {
    in_member_string_ = true;
    string_shown_ = false;
  } else if (scanner_.mark() == Mark::kValueClose && scanner_.depth() == 1) {
    Flush();
  }
}

// Escapes go out whole, so that the string can be closed after any of them.
void JsonArguments::FeedString(char c) {
  if (!scanner_.in_string()) {
    Flush();
    ready_ += std::exchange(escape_, "");
    ready_ += c;
    in_member_string_ = false;
    return;
  }
  if (c == '\\' && (escape_.empty() || escape_.size() == 6)) {
    escape_ += c;
    return;
  }
  const bool complete_pair = escape_.size() == 6;
  if (!escape_.empty() && !complete_pair) {
    escape_ += c;
    const size_t start = escape_.size() > 6 ? 6 : 0;
    const size_t length = escape_.size() - start;
    const bool done = escape_[start + 1] == 'u' ? length == 6 : length == 2;
    if (!done || (start == 0 && IsHighSurrogate(escape_))) {
      return;
    }
    Flush();
    string_shown_ = true;
    ready_ += std::exchange(escape_, "");
    return;
  }
  Flush();
  string_shown_ = true;
  ready_ += std::exchange(escape_, "");
  AppendStringCharacter(ready_, c);
}

void JsonArguments::Flush() {
  ready_ += held_;
  held_.clear();
}

// A comma waits with what follows it, so it has not been sent.
void JsonArguments::DropComma() {
  held_.erase(held_.rfind(','), 1);
}

bool JsonArguments::CloseBrackets() {
  held_.resize(held_.find_last_not_of(" \t\r\n") + 1);
  while (scanner_.depth() > 0) {
    if (Feed(scanner_.closing_bracket()) == Status::kBroken) {
      return false;
    }
  }
  return object_;
}

std::string JsonArguments::Take() {
  return std::exchange(ready_, "");
}

std::string JsonArguments::Close(bool unwrap) {
  std::string rest = std::exchange(ready_, "") + std::exchange(held_, "");
  if (object_ || !unwrap) {
    return rest;
  }
  if (rest == "null") {
    return "{}";
  }
  const std::optional<std::string> text = UnquoteJson(rest);
  return text && IsJsonObject(*text) ? *text : rest;
}

std::string JsonArguments::Complete() {
  std::string rest = std::exchange(ready_, "");
  held_.clear();
  if (!object_) {
    return "{}";
  }
  if (in_member_string_ && string_shown_) {
    rest += '"';
  }
  return rest + "}";
}

std::string JsonArguments::Rest() {
  return std::exchange(ready_, "") + std::exchange(held_, "") + std::exchange(escape_, "");
}

}  // namespace mach::chat
