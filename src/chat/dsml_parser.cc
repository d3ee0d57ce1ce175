// DeepSeek's DSML calls: tags like XML whose names carry a special token, values verbatim between
// them. For V3.2, V4 and V4.1, which differ in the name of the outer tag and in a space.
#include <algorithm>
#include <memory>
#include <string>
#include <string_view>

#include "chat/dsml_arguments.h"
#include "chat/dsml_tag.h"
#include "chat/formats.h"
#include "chat/markup_parser.h"

namespace mach::chat {
namespace {

class DsmlParser final : public MarkupParser {
 public:
  DsmlParser(ParserOptions& options, const std::string& wrapper)
      : MarkupParser(options),
        space_(wrapper.starts_with(' ') ? " " : ""),
        tag_open_(Marker("<｜DSML｜")),
        tag_close_(Marker("</｜DSML｜")),
        wrapper_open_(tag_open_ + wrapper + ">"),
        wrapper_close_(tag_close_ + wrapper + ">"),
        invoke_open_(tag_open_ + space_ + "invoke"),
        invoke_close_(tag_close_ + space_ + "invoke>"),
        parameter_open_(tag_open_ + space_ + "parameter"),
        parameter_close_(tag_close_ + space_ + "parameter>"),
        schemas_(options.tools),
        arguments_(sink_) {}

 protected:
  Opens OpensCall(size_t at) override;
  bool OpenerAt(size_t at) const override { return Match(at, tag_open_) == Hit::kFull; }
  bool StepCall() override;
  void EndCall(EndReason ended) override;

 private:
  enum class Part {
    kHeader,       // inside an invocation, between parameters
    kValue,        // inside a parameter
    kAfterInvoke,  // inside the wrapper, between invocations
    kBroken        // inside an invocation without a name
  };

  struct Tag : DsmlAttributes {
    Hit hit = Hit::kNo;
    size_t end = 0;
  };

  Tag MatchTag(size_t at, std::string_view open) const;
  Hit MatchOther(size_t at);
  Opens OpensBare(size_t at);
  void StartInvoke(const Tag& invoke);
  void FinishInvoke();
  void StartParameter(const Tag& parameter);
  void AppendValue(std::string_view text);
  bool StepHeader();
  bool StepValue();
  bool StepAfterInvoke();
  bool StepAfterBare();
  bool StepBroken();

  const std::string space_;
  const std::string tag_open_;
  const std::string tag_close_;
  const std::string wrapper_open_;
  const std::string wrapper_close_;
  const std::string invoke_open_;
  const std::string invoke_close_;
  const std::string parameter_open_;
  const std::string parameter_close_;
  const ToolSchemas schemas_;
  DsmlArguments arguments_;
  Part part_ = Part::kHeader;
  bool bare_ = false;  // without a wrapper
  std::string other_;  // the closing tag of another version's wrapper
};

// `open`, then attributes, then '>'.
DsmlParser::Tag DsmlParser::MatchTag(size_t at, std::string_view open) const {
  Tag tag;
  tag.hit = Match(at, open);
  if (tag.hit != Hit::kFull) {
    return tag;
  }
  const size_t start = at + open.size();
  const std::string_view text = std::string_view(in_).substr(start, kMaxTagBytes);
  size_t length = 0;
  switch (ReadAttributes(text, tag, length)) {
    case AttributesEnd::kClosed:
      tag.end = start + length;
      tag.hit = tag.name.empty() ? Hit::kNo : Hit::kFull;
      break;
    case AttributesEnd::kNotYet:
      tag.hit = text.size() < kMaxTagBytes && !at_end_ ? Hit::kPartial : Hit::kNo;
      break;
    case AttributesEnd::kNone:
      tag.hit = Hit::kNo;
      break;
  }
  return tag;
}

MarkupParser::Opens DsmlParser::OpensCall(size_t at) {
  const Hit wrapper = Match(at, wrapper_open_);
  if (wrapper != Hit::kFull) {
    return wrapper == Hit::kPartial ? Opens::kWait : OpensBare(at);
  }
  const size_t next = SkipGap(at + wrapper_open_.size());
  const Tag invoke = MatchTag(next, invoke_open_);
  const Hit open = Match(next, tag_open_);
  const Hit close = Match(next, tag_close_);
  for (const Hit hit : {invoke.hit, open, close}) {
    if (hit == Hit::kPartial) {
      return Opens::kWait;
    }
  }
  bare_ = false;
  if (invoke.hit == Hit::kFull) {
    StartInvoke(invoke);
    return Opens::kYes;
  }
  if (open == Hit::kNo && close == Hit::kNo) {
    return Opens::kNo;
  }
  // What comes first is broken; what follows it need not be.
  pos_ = next;
  part_ = Part::kAfterInvoke;
  return Opens::kYes;
}

// The wrapper of another version: all as far as its closing tag is text.
DsmlParser::Hit DsmlParser::MatchOther(size_t at) {
  Hit found = Hit::kNo;
  for (const char* name : {"tool_calls>", "function_calls>", " calls>"}) {
    const Hit hit = Match(at, tag_open_ + name);
    if (hit == Hit::kFull) {
      other_ = tag_close_ + name;
    }
    found = hit == Hit::kNo ? found : hit;
  }
  return found;
}

// An invocation without a wrapper, if it is no talk about the syntax.
MarkupParser::Opens DsmlParser::OpensBare(size_t at) {
  if (!other_.empty()) {
    const Hit close = Match(at, other_);
    other_ = close == Hit::kFull ? "" : other_;
    return close == Hit::kPartial ? Opens::kWait : Opens::kNo;
  }
  const Hit other = MatchOther(at);
  if (other != Hit::kNo || in_reasoning() || !at_line_start()) {
    return other == Hit::kPartial ? Opens::kWait : Opens::kNo;
  }
  Tag invoke = MatchTag(at, invoke_open_);
  if (invoke.hit == Hit::kNo && Match(at, tag_open_) == Hit::kFull) {
    // A wrapper whose name is misspelled.
    const std::string_view text = std::string_view(in_).substr(at, kMaxTagBytes);
    const size_t end = text.find_first_of(">\n");
    if (end == std::string_view::npos && text.size() < kMaxTagBytes && !at_end_) {
      return Opens::kWait;
    }
    invoke = MatchTag(end == std::string_view::npos ? at : SkipGap(at + end + 1), invoke_open_);
  }
  if (invoke.hit != Hit::kFull || schemas_.Find(invoke.name) == nullptr) {
    return invoke.hit == Hit::kPartial ? Opens::kWait : Opens::kNo;
  }
  bare_ = true;
  StartInvoke(invoke);
  return Opens::kYes;
}

void DsmlParser::StartInvoke(const Tag& invoke) {
  sink_.OpenCall(invoke.name);
  arguments_.Open(schemas_.Find(invoke.name));
  pos_ = invoke.end;
  part_ = Part::kHeader;
  if (invoke.closed) {
    FinishInvoke();
    part_ = Part::kAfterInvoke;
  }
}

void DsmlParser::FinishInvoke() {
  arguments_.Close();
  sink_.CloseCall();
}

void DsmlParser::StartParameter(const Tag& parameter) {
  arguments_.BeginValue(parameter.name, parameter.string == "false"  ? ValueHint::kJson
                                        : parameter.string == "true" ? ValueHint::kString
                                                                     : ValueHint::kNone);
  pos_ = parameter.end;
  part_ = Part::kValue;
  PassedTag();
  if (parameter.closed) {
    arguments_.EndValue();
    part_ = Part::kHeader;
  }
}

void DsmlParser::AppendValue(std::string_view text) {
  const std::string plain = WithoutMarks(text);
  Passed(plain);
  arguments_.Append(plain);
}

bool DsmlParser::StepCall() {
  switch (part_) {
    case Part::kHeader:
      return StepHeader();
    case Part::kValue:
      return StepValue();
    case Part::kAfterInvoke:
      return bare_ ? StepAfterBare() : StepAfterInvoke();
    case Part::kBroken:
      return StepBroken();
  }
  return false;
}

bool DsmlParser::StepHeader() {
  const size_t lead = FindLead(pos_);
  arguments_.Unread(std::string_view(in_).substr(pos_, lead - pos_));
  pos_ = lead;
  if (pos_ == in_.size()) {
    return false;
  }
  const Tag parameter = MatchTag(pos_, parameter_open_);
  if (parameter.hit == Hit::kFull) {
    StartParameter(parameter);
    return true;
  }
  const Hit parameter_close = Match(pos_, parameter_close_);
  const Hit invoke_close = Match(pos_, invoke_close_);
  const Hit wrapper_close = Match(pos_, wrapper_close_);
  const Hit invoke = Match(pos_, invoke_open_);
  for (const Hit hit : {parameter.hit, parameter_close, invoke_close, wrapper_close, invoke}) {
    if (hit == Hit::kPartial) {
      return false;
    }
  }
  if (invoke_close == Hit::kFull || wrapper_close == Hit::kFull || invoke == Hit::kFull) {
    FinishInvoke();
    pos_ += invoke_close == Hit::kFull ? invoke_close_.size() : 0;
    part_ = Part::kAfterInvoke;
  } else if (parameter_close == Hit::kFull) {
    pos_ += parameter_close_.size();
  } else {
    arguments_.Unread(WithoutMarks(std::string_view(in_).substr(pos_, 1)));
    ++pos_;
  }
  return true;
}

// A closing tag ends the value however it goes on, an opening one at the start of a line.
bool DsmlParser::StepValue() {
  const size_t lead = FindLead(pos_);
  AppendValue(std::string_view(in_).substr(pos_, lead - pos_));
  pos_ = lead;
  if (lead == in_.size()) {
    return false;
  }
  const Hit close = Match(lead, tag_close_);
  const Hit parameter = at_line_start() ? MatchTag(lead, parameter_open_).hit : Hit::kNo;
  const Hit invoke = at_line_start() ? MatchTag(lead, invoke_open_).hit : Hit::kNo;
  bool partial = false;
  for (const Hit hit : {close, parameter, invoke}) {
    if (hit == Hit::kFull) {
      arguments_.EndValue();
      part_ = Part::kHeader;
      return true;
    }
    partial = partial || hit == Hit::kPartial;
  }
  if (partial) {
    return false;
  }
  AppendValue(std::string_view(in_).substr(lead, 1));
  ++pos_;
  return true;
}

// Text between invocations is content; the wrapper stays open.
bool DsmlParser::StepAfterInvoke() {
  const size_t lead = FindLead(pos_);
  EmitContent(std::string_view(in_).substr(pos_, lead - pos_));
  pos_ = lead;
  if (lead == in_.size()) {
    return false;
  }
  const Hit wrapper_close = Match(lead, wrapper_close_);
  const Tag invoke = MatchTag(lead, invoke_open_);
  const Hit open = Match(lead, tag_open_);
  const Hit close = Match(lead, tag_close_);
  if (wrapper_close == Hit::kFull) {
    sink_.EndContent();
    pos_ += wrapper_close_.size();
    LeaveCall();
    return true;
  }
  if (invoke.hit == Hit::kFull) {
    StartInvoke(invoke);
    return true;
  }
  for (const Hit hit : {wrapper_close, invoke.hit, open, close}) {
    if (hit == Hit::kPartial) {
      return false;
    }
  }
  const std::string_view rest = std::string_view(in_).substr(lead);
  const bool cut = at_end_ && (tag_open_.starts_with(rest) || tag_close_.starts_with(rest));
  if (open == Hit::kFull || close == Hit::kFull || cut) {
    PassedTag();
    part_ = Part::kBroken;
  } else {
    EmitContent(rest.substr(0, 1));
  }
  ++pos_;
  return true;
}

// After an invocation without a wrapper: another one, or a closing tag of any name.
bool DsmlParser::StepAfterBare() {
  const size_t next = SkipGap(pos_);
  const Tag invoke = MatchTag(next, invoke_open_);
  const Hit close = Match(next, tag_close_);
  if (invoke.hit == Hit::kPartial || close == Hit::kPartial) {
    return false;
  }
  if (invoke.hit == Hit::kFull) {
    StartInvoke(invoke);
    return true;
  }
  if (close == Hit::kFull) {
    const size_t limit = std::min(in_.size(), next + kMaxTagBytes);
    const size_t end = std::string_view(in_).substr(0, limit).find('>', next);
    if (end == std::string_view::npos && limit == in_.size() && !at_end_) {
      return false;
    }
    pos_ = end == std::string_view::npos ? limit : end + 1;
  }
  LeaveCall();
  return true;
}

// Without a name there is no call; the next invocation, at the start of a line, may have one.
bool DsmlParser::StepBroken() {
  const size_t lead = FindLead(pos_);
  Passed(std::string_view(in_).substr(pos_, lead - pos_));
  pos_ = lead;
  if (lead == in_.size()) {
    return false;
  }
  const Hit invoke_close = Match(lead, invoke_close_);
  const Hit wrapper_close = Match(lead, wrapper_close_);
  const Tag invoke = at_line_start() ? MatchTag(lead, invoke_open_) : Tag();
  for (const Hit hit : {invoke_close, wrapper_close, invoke.hit}) {
    if (hit == Hit::kPartial) {
      return false;
    }
  }
  if (invoke_close == Hit::kNo && wrapper_close == Hit::kNo && invoke.hit == Hit::kNo) {
    PassedTag();
    ++pos_;
    return true;
  }
  pos_ += invoke_close == Hit::kFull ? invoke_close_.size() : 0;
  part_ = Part::kAfterInvoke;
  return true;
}

void DsmlParser::EndCall(EndReason ended) {
  if (part_ >= Part::kAfterInvoke || ended == EndReason::kLength) {
    return;
  }
  if (part_ == Part::kValue) {
    arguments_.AbandonValue();
  }
  FinishInvoke();
}

}  // namespace

std::unique_ptr<OutputParser> MakeDsmlParser(ParserOptions& options, const char* wrapper) {
  return std::make_unique<DsmlParser>(options, wrapper);
}

}  // namespace mach::chat
