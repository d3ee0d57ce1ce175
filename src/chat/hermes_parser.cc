// Calls as JSON between <tool_call> tags (Hermes). The keys of the outer object may come in any
// order; arguments wait for the name. The text of a block stays in the buffer until it is complete,
// because a broken one is read again from its first closing tag.
#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

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

  std::optional<std::string> ContentOverride() const override {
    return broken_ ? std::optional(WithoutMarks(plain_)) : std::nullopt;
  }

 protected:
  Opens OpensCall(size_t at) override;
  bool OpenerAt(size_t at) const override { return Match(at, call_open_) == Hit::kFull; }
  bool StepCall() override;
  void EndCall(EndReason ended) override;
  void OnPlainText(std::string_view text) override { plain_ += text; }
  size_t KeepFrom() const override {
    return state() == State::kCall && part_ != Part::kSkip ? block_ : pos_;
  }
  void Shifted(size_t bytes) override { block_ -= std::min(block_, bytes); }

 private:
  enum class Part {
    kFirstKey,  // a key or the closing brace
    kKey,
    kColon,
    kField,      // a value that is not arguments
    kArguments,  // the value of "arguments"
    kComma,      // or the closing brace
    kClosing,    // the closing tag
    kSkip        // dropping text until the closing tag
  };

  void Feed(char c);
  void Colon();
  void FeedField(char c);
  void FeedArguments(char c);
  void EndField();
  void ShowArguments();
  void EndObject();
  bool StepClosing();
  bool StepSkip();
  void Broken();
  void FinishCall();

  const std::string call_open_;
  const std::string call_close_;
  Part part_ = Part::kFirstKey;
  size_t block_ = 0;  // where the block starts, its tag included
  bool named_ = false;
  bool has_arguments_ = false;
  std::string key_;
  std::string field_;  // JSON text of a key or value being read
  JsonScanner scanner_;
  JsonArguments arguments_;
  bool arguments_done_ = false;
  bool broken_ = false;
  std::string plain_;  // all text but reasoning
};

MarkupParser::Opens HermesParser::OpensCall(size_t at) {
  const Hit open = Match(at, call_open_);
  if (open != Hit::kFull) {
    return open == Hit::kPartial ? Opens::kWait : Opens::kNo;
  }
  const size_t brace = SkipGap(at + call_open_.size());
  const Hit hit = Match(brace, "{");
  if (hit == Hit::kPartial) {
    return Opens::kWait;
  }
  if (hit == Hit::kNo) {
    broken_ = broken_ || (!in_reasoning() && brace < in_.size());
    return Opens::kNo;
  }
  block_ = at;
  pos_ = brace + 1;
  part_ = Part::kFirstKey;
  named_ = has_arguments_ = arguments_done_ = false;
  field_.clear();
  scanner_ = {};
  arguments_ = {};
  return Opens::kYes;
}

bool HermesParser::StepCall() {
  if (part_ == Part::kClosing) {
    return StepClosing();
  }
  if (part_ == Part::kSkip) {
    return StepSkip();
  }
  while (pos_ < in_.size() && part_ < Part::kClosing && state() == State::kCall) {
    Feed(in_[pos_++]);
  }
  ShowArguments();
  return state() != State::kCall || part_ >= Part::kClosing;
}

void HermesParser::Feed(char c) {
  if (part_ == Part::kField) {
    FeedField(c);
    return;
  }
  if (part_ == Part::kArguments) {
    FeedArguments(c);
    return;
  }
  const bool space = c == ' ' || c == '\n' || c == '\t' || c == '\r';
  if (part_ == Part::kFirstKey || part_ == Part::kKey) {
    if (scanner_.in_string() || c == '"') {
      // A key reads like any string value.
      field_ += c;
      const JsonScanner::Status status = scanner_.Feed(c);
      if (status == JsonScanner::Status::kBroken) {
        Broken();
      } else if (status == JsonScanner::Status::kDone) {
        key_ = UnquoteJson(field_).value_or("");
        part_ = Part::kColon;
      }
    } else if (c == '}' && part_ == Part::kFirstKey) {
      EndObject();
    } else if (!space) {
      Broken();
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
    part_ = Part::kKey;
  } else if (part_ == Part::kComma && c == '}') {
    EndObject();
  } else {
    Broken();
  }
}

void HermesParser::Colon() {
  field_.clear();
  scanner_ = {};
  part_ = key_ == "arguments" && !has_arguments_ ? Part::kArguments : Part::kField;
  has_arguments_ = has_arguments_ || part_ == Part::kArguments;
}

void HermesParser::FeedField(char c) {
  switch (scanner_.Feed(c)) {
    case JsonScanner::Status::kMore:
      field_ += c;
      break;
    case JsonScanner::Status::kDone:
      field_ += c;
      EndField();
      break;
    case JsonScanner::Status::kDoneBefore:
      EndField();
      --pos_;
      break;
    case JsonScanner::Status::kBroken:
      Broken();
      break;
  }
}

void HermesParser::EndField() {
  part_ = Part::kComma;
  if (key_ != "name" || named_) {
    return;
  }
  const size_t start = field_.find_first_not_of(" \t\r\n");
  const std::optional<std::string> name = UnquoteJson(std::string_view(field_).substr(start));
  if (name && !name->empty()) {
    named_ = true;
    sink_.OpenCall(*name);
  }
}

void HermesParser::FeedArguments(char c) {
  switch (arguments_.Feed(c)) {
    case JsonScanner::Status::kMore:
      break;
    case JsonScanner::Status::kDone:
      arguments_done_ = true;
      part_ = Part::kComma;
      break;
    case JsonScanner::Status::kDoneBefore:
      arguments_done_ = true;
      part_ = Part::kComma;
      --pos_;
      break;
    case JsonScanner::Status::kBroken:
      Broken();
      break;
  }
}

void HermesParser::ShowArguments() {
  if (named_ && state() == State::kCall) {
    sink_.Arguments(arguments_.Take());
  }
}

// The last brace of the arguments goes out with that of the block: a call that is cut off between
// them must not look complete.
void HermesParser::EndObject() {
  if (!named_) {
    Broken();
    return;
  }
  sink_.Arguments(arguments_.Take());
  sink_.CutArguments();
  sink_.Arguments(has_arguments_ ? arguments_.Close(true) : "{}");
  sink_.CloseCall();
  part_ = Part::kClosing;
}

bool HermesParser::StepClosing() {
  const size_t next = SkipGap(pos_);
  const Hit close = Match(next, call_close_);
  const Hit open = Match(next, call_open_);
  if (close == Hit::kPartial || open == Hit::kPartial) {
    return false;
  }
  const bool ended = next == in_.size();
  if (close != Hit::kFull && open != Hit::kFull && !ended) {
    broken_ = true;
    pos_ = next;
    plain_ += std::string_view(in_).substr(block_, pos_ - block_);
    part_ = Part::kSkip;
    return true;
  }
  pos_ = close == Hit::kFull ? next + call_close_.size() : next;
  plain_ += std::string_view(in_).substr(block_, pos_ - block_);
  LeaveCall();
  return !ended;
}

bool HermesParser::StepSkip() {
  const size_t lead = FindLead(pos_);
  const Hit close = Match(lead, call_close_);
  const Hit open = Match(lead, call_open_);
  const size_t end = close == Hit::kFull ? lead + call_close_.size()
                     : open == Hit::kNo && close == Hit::kNo && lead < in_.size() ? lead + 1
                                                                                  : lead;
  plain_ += std::string_view(in_).substr(pos_, end - pos_);
  pos_ = end;
  if (close == Hit::kFull || open == Hit::kFull) {
    LeaveCall();
    return true;
  }
  return lead < in_.size() && close == Hit::kNo && open == Hit::kNo;
}

void HermesParser::Broken() {
  broken_ = true;
  const size_t close = std::string_view(in_).substr(0, pos_).find(call_close_, block_);
  const size_t end = close == std::string_view::npos ? pos_ : close + call_close_.size();
  const std::string text = in_.substr(block_, end - block_);
  pos_ = end;
  if (!named_) {
    LeaveCall();
    EmitContent(text);
    return;
  }
  FinishCall();
  plain_ += text;
  if (close == std::string_view::npos) {
    part_ = Part::kSkip;
  } else {
    LeaveCall();
  }
}

// Ends a named call with what its arguments have.
void HermesParser::FinishCall() {
  sink_.Arguments(arguments_.Take());
  sink_.CutArguments();
  sink_.Arguments(!has_arguments_   ? "{}"
                  : arguments_done_ ? arguments_.Close(true)
                                    : arguments_.Complete());
  sink_.CloseCall();
}

void HermesParser::EndCall(EndReason ended) {
  if (part_ < Part::kClosing && named_ && ended == EndReason::kStop) {
    FinishCall();
  }
  if (part_ != Part::kSkip) {
    plain_ += std::string_view(in_).substr(block_);
  }
}

}  // namespace

std::unique_ptr<OutputParser> MakeHermesParser(ParserOptions& options) {
  return std::make_unique<HermesParser>(options);
}

}  // namespace mach::chat
