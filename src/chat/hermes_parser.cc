// Calls as JSON between <tool_call> tags (Hermes). The keys of the outer object may come in any
// order; arguments wait for the name. The text of a block stays in the buffer until its object is
// complete, because a broken one is read again from where it went wrong.
#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/json_string.h"
#include "chat/formats.h"
#include "chat/json_arguments.h"
#include "chat/json_scanner.h"
#include "chat/markup_parser.h"
#include "chat/value_typing.h"

namespace mach::chat {
namespace {

class HermesParser final : public MarkupParser {
 public:
  explicit HermesParser(ParserOptions& options)
      : MarkupParser(options),
        call_open_(Marker("<tool_call>")),
        call_close_(Marker("</tool_call>")) {}

 protected:
  Opens OpensCall(size_t at) override;
  bool OpenerAt(size_t at) const override { return Match(at, call_open_) == Hit::kFull; }
  bool StepCall() override;
  void EndCall(EndReason ended) override;
  size_t KeepFrom() const override {
    return state() == State::kCall && part_ < Part::kAfterObject ? block_ : pos_;
  }
  void Shifted(size_t bytes) override {
    block_ -= std::min(block_, bytes);
    broken_at_ -= std::min(broken_at_, bytes);
  }

 private:
  enum class Part {
    kFirstKey,  // a key or the closing brace
    kNextKey,
    kColon,
    kField,        // a value that is not arguments
    kArguments,    // the value of "arguments"
    kComma,        // or the closing brace
    kBroken,       // a named call whose object is no JSON: up to the next tag
    kAfterObject,  // braces too many, or the closing tag
    kText          // content before the closing tag
  };

  void Feed(char c);
  void Colon();
  void FeedField(char c);
  void FeedArguments(char c);
  void EndField();
  void ShowArguments();
  void EndObject();
  void EndAtTag();
  bool InString() const;
  bool StepObject();
  bool StepAfterObject();
  bool StepText();
  bool StepBroken();
  void Broken(size_t unread);
  void FinishBroken(size_t end);
  void FinishArguments(std::string_view rest);
  // Leaves the block at a tag: behind a closing one, before an opening one.
  void LeaveAt(size_t at, Hit close);

  const std::string call_open_;
  const std::string call_close_;
  Part part_ = Part::kFirstKey;
  size_t block_ = 0;      // where the block starts, its tag included
  size_t broken_at_ = 0;  // the character that could not be read
  bool named_ = false;
  bool has_arguments_ = false;
  bool unknown_key_ = false;  // something was said under a key that calls do not have
  std::string key_;
  std::string field_;  // JSON text of a key or value being read
  JsonScanner scanner_;
  JsonArguments arguments_;
};

MarkupParser::Opens HermesParser::OpensCall(size_t at) {
  const Hit open = Match(at, call_open_);
  if (open != Hit::kFull) {
    return open == Hit::kPartial ? Opens::kWait : Opens::kNo;
  }
  const size_t brace = SkipGap(at + call_open_.size());
  const Hit hit = Match(brace, "{");
  if (hit != Hit::kFull) {
    return hit == Hit::kPartial ? Opens::kWait : Opens::kNo;
  }
  block_ = at;
  pos_ = brace + 1;
  part_ = Part::kFirstKey;
  named_ = has_arguments_ = unknown_key_ = false;
  field_.clear();
  scanner_ = {};
  arguments_ = {};
  return Opens::kYes;
}

bool HermesParser::StepCall() {
  switch (part_) {
    case Part::kBroken:
      return StepBroken();
    case Part::kAfterObject:
      return StepAfterObject();
    case Part::kText:
      return StepText();
    default:
      return StepObject();
  }
}

bool HermesParser::InString() const {
  return part_ == Part::kArguments ? arguments_.in_string() : scanner_.in_string();
}

// Up to the end of the object, a tag where no string is open, or the end of the input.
bool HermesParser::StepObject() {
  while (pos_ < in_.size() && part_ < Part::kBroken && state() == State::kCall) {
    const char c = in_[pos_];
    if ((c == '<' || c == kSpecialMark) && !InString()) {
      const Hit close = Match(pos_, call_close_);
      const Hit open = Match(pos_, call_open_);
      if (close == Hit::kPartial || open == Hit::kPartial) {
        break;
      }
      if (close == Hit::kFull || open == Hit::kFull) {
        EndAtTag();
        return true;
      }
    }
    ++pos_;
    if (c != kSpecialMark) {
      Feed(c);
    }
  }
  ShowArguments();
  return state() != State::kCall || part_ >= Part::kBroken;
}

void HermesParser::Feed(char c) {
  if (part_ == Part::kField || part_ == Part::kArguments) {
    part_ == Part::kField ? FeedField(c) : FeedArguments(c);
    return;
  }
  const bool space = c == ' ' || c == '\n' || c == '\t' || c == '\r';
  if (part_ == Part::kFirstKey || part_ == Part::kNextKey) {
    if (scanner_.in_string() || c == '"') {
      // A key reads like any string value.
      field_ += c;
      const JsonScanner::Status status = scanner_.Feed(c);
      if (status == JsonScanner::Status::kBroken) {
        Broken(pos_ - 1);
      } else if (status == JsonScanner::Status::kDone) {
        key_ = UnquoteJson(field_).value_or("");
        part_ = Part::kColon;
      }
    } else if (c == '}') {
      EndObject();
    } else if (!space) {
      Broken(pos_ - 1);
    }
    return;
  }
  if (space) {
    return;
  }
  if (part_ == Part::kColon && c == ':') {
    Colon();
  } else if (part_ == Part::kComma && c == ',') {
    field_.clear();
    scanner_ = {};
    part_ = Part::kNextKey;
  } else if (part_ == Part::kComma && c == '}') {
    EndObject();
  } else {
    Broken(pos_ - 1);
  }
}

void HermesParser::Colon() {
  field_.clear();
  scanner_ = {};
  const bool arguments = key_ == "arguments" || key_ == "parameters";
  unknown_key_ = unknown_key_ || (!arguments && key_ != "name" && key_ != "id" && key_ != "type");
  part_ = arguments && !has_arguments_ ? Part::kArguments : Part::kField;
  has_arguments_ = has_arguments_ || arguments;
}

void HermesParser::FeedField(char c) {
  const JsonScanner::Status status = scanner_.Feed(c);
  if (status == JsonScanner::Status::kBroken) {
    Broken(pos_ - 1);
  } else if (status == JsonScanner::Status::kDoneBefore) {
    EndField();
    --pos_;
  } else {
    field_ += c;
    if (status == JsonScanner::Status::kDone) {
      EndField();
    }
  }
}

void HermesParser::EndField() {
  part_ = Part::kComma;
  if (key_ != "name" || named_) {
    return;
  }
  const std::optional<std::string> name = UnquoteJson(TrimSpace(field_));
  if (name && !name->empty()) {
    named_ = true;
    sink_.OpenCall(*name);
  }
}

void HermesParser::FeedArguments(char c) {
  const JsonScanner::Status status = arguments_.Feed(c);
  if (status == JsonScanner::Status::kBroken) {
    Broken(pos_);
  } else if (status != JsonScanner::Status::kMore) {
    part_ = Part::kComma;
    pos_ -= status == JsonScanner::Status::kDoneBefore ? 1 : 0;
  }
}

void HermesParser::ShowArguments() {
  if (named_ && state() == State::kCall && part_ < Part::kBroken) {
    sink_.Arguments(arguments_.Take());
  }
}

// What is still to be sent of a call's arguments.
void HermesParser::FinishArguments(std::string_view rest) {
  sink_.Arguments(arguments_.Take());
  sink_.CutArguments();
  sink_.Arguments(rest);
  sink_.CloseCall();
}

// The last brace of the arguments goes out with that of the block: a call that is cut off between
// them must not look complete.
void HermesParser::EndObject() {
  if (!named_) {
    Broken(pos_);
  } else if (!has_arguments_ && unknown_key_) {
    part_ = Part::kBroken;  // what was said is no arguments, but it was said
    broken_at_ = pos_;
  } else {
    sink_.Arguments(arguments_.Take());
    FinishArguments(has_arguments_ ? arguments_.Close(true) : "{}");
    part_ = Part::kAfterObject;
  }
}

// A tag before the end of the object: closing brackets are missing, if nothing else is.
void HermesParser::EndAtTag() {
  const bool complete = part_ == Part::kComma || part_ == Part::kNextKey ||
                        (part_ == Part::kArguments && named_ && arguments_.CloseBrackets());
  if (complete && named_) {
    EndObject();
  } else {
    Broken(pos_);
  }
}

void HermesParser::LeaveAt(size_t at, Hit close) {
  pos_ = at + (close == Hit::kFull ? call_close_.size() : 0);
  LeaveCall();
}

bool HermesParser::StepAfterObject() {
  const size_t next = SkipGap(pos_);
  if (next == in_.size() && !at_end_ && next - pos_ < kMaxGapBytes) {
    return false;
  }
  const Hit close = Match(next, call_close_);
  const Hit open = Match(next, call_open_);
  if (close == Hit::kPartial || open == Hit::kPartial) {
    return false;
  }
  if (close == Hit::kFull || open == Hit::kFull) {
    LeaveAt(next, close);
  } else if (next < in_.size() && in_[next] == '}') {
    pos_ = next + 1;
  } else {
    part_ = Part::kText;
  }
  return true;
}

bool HermesParser::StepText() {
  const size_t lead = FindLead(pos_);
  EmitContent(std::string_view(in_).substr(pos_, lead - pos_));
  pos_ = lead;
  const Hit close = Match(lead, call_close_);
  const Hit open = Match(lead, call_open_);
  if (lead == in_.size() || close == Hit::kPartial || open == Hit::kPartial) {
    return false;
  }
  if (close == Hit::kFull || open == Hit::kFull) {
    LeaveAt(lead, close);
    return true;
  }
  EmitContent(std::string_view(in_).substr(lead, 1));
  ++pos_;
  return true;
}

// The block is no JSON; `unread` is the first character that the arguments do not hold. A block
// that opens within what has been read, which only a string without its end can hold, is one of its
// own.
void HermesParser::Broken(size_t unread) {
  const size_t open = in_.find(call_open_, block_ + call_open_.size());
  const bool swallowed = open < pos_;
  if (named_) {
    sink_.Arguments(arguments_.Take());
    part_ = Part::kBroken;
    broken_at_ = unread;
    pos_ = swallowed ? open : unread;
    return;
  }
  pos_ = swallowed ? open : pos_;
  const std::string text = in_.substr(block_, pos_ - block_);
  LeaveCall();
  EmitContent(text);
}

bool HermesParser::StepBroken() {
  pos_ = FindLead(pos_);
  if (pos_ == in_.size()) {
    return false;
  }
  const Hit close = Match(pos_, call_close_);
  const Hit open = Match(pos_, call_open_);
  if (close == Hit::kPartial || open == Hit::kPartial) {
    return false;
  }
  if (close == Hit::kFull || open == Hit::kFull) {
    FinishBroken(pos_);
    LeaveAt(pos_, close);
  } else {
    ++pos_;
  }
  return true;
}

// A named call that is no JSON: its arguments as they were written, which nobody can run. Without
// arguments, what else it says is one JSON string.
void HermesParser::FinishBroken(size_t end) {
  if (!has_arguments_) {
    std::string quoted;
    const size_t start = block_ + call_open_.size();
    AppendJsonString(quoted, TrimSpace(WithoutMarks(in_.substr(start, end - start))));
    FinishArguments(quoted);
    return;
  }
  std::string rest = arguments_.Rest();
  if (end > broken_at_) {
    rest += WithoutMarks(std::string_view(in_).substr(broken_at_, end - broken_at_));
  }
  rest.resize(rest.find_last_not_of(" \t\r\n") + 1);
  if (rest.ends_with('}')) {
    rest.pop_back();  // the block's
  }
  FinishArguments(rest);
}

void HermesParser::EndCall(EndReason ended) {
  if (part_ >= Part::kAfterObject || !named_ || ended == EndReason::kLength) {
    return;
  }
  if (part_ == Part::kBroken) {
    FinishBroken(in_.size());
  } else if (arguments_.in_string() && in_.find(call_close_, block_) != std::string::npos) {
    FinishArguments("");  // the string has no end, so nobody knows what the arguments are
  } else {
    FinishArguments(!has_arguments_             ? "{}"
                    : part_ != Part::kArguments ? arguments_.Close(true)
                                                : arguments_.Complete());
  }
}

}  // namespace

std::unique_ptr<OutputParser> MakeHermesParser(ParserOptions& options) {
  return std::make_unique<HermesParser>(options);
}

}  // namespace mach::chat
