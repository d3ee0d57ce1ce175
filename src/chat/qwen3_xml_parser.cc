// Calls as Qwen3 writes them, in XML. Values are plain text between tags without any escaping, so a
// file that holds such tags can only be told from the tags by what stands around them; StepValue
// holds a candidate until that is known.
#include <algorithm>
#include <string>
#include <string_view>

#include "chat/arguments_writer.h"
#include "chat/formats.h"
#include "chat/markup_parser.h"

namespace mach::chat {
namespace {

constexpr size_t kMaxNameBytes = 128;

class Qwen3XmlParser final : public MarkupParser {
 public:
  explicit Qwen3XmlParser(ParserOptions& options)
      : MarkupParser(options),
        call_open_(Marker("<tool_call>")),
        call_close_(Marker("</tool_call>")),
        function_open_(Marker("<function=")),
        function_close_(Marker("</function>")),
        parameter_open_(Marker("<parameter=")),
        parameter_close_(Marker("</parameter>")),
        schemas_(options.tools),
        arguments_(sink_) {}

 protected:
  Opens OpensCall(size_t at) override;
  bool OpenerAt(size_t at) const override {
    return Match(at, call_open_) == Hit::kFull ||
           (at_line_start() && Match(at, function_open_) == Hit::kFull);
  }
  bool StepCall() override;
  void EndCall(EndReason ended) override;

 private:
  enum class Part {
    kHeader,      // after <function=…> or a parameter: other text is dropped
    kValueStart,  // a newline here is not the value's
    kValue,
    kAfterFunction  // a further <function= or </tool_call> may follow
  };
  enum class Verdict { kText, kWait, kCloses };

  // A tag with a name in it, as <function=NAME>.
  struct Named {
    Hit hit = Hit::kNo;
    std::string_view name;
    size_t end = 0;
  };

  Named MatchNamed(size_t at, std::string_view open, size_t max_bytes) const;
  void StartFunction(const Named& function);
  void FinishFunction();
  bool StepHeader();
  bool StepValue();
  bool StepAfterFunction();
  Verdict JudgeParameterClose(size_t after);
  Verdict JudgeFunctionClose(size_t after) const;
  Verdict JudgeCallClose(size_t after) const;
  Verdict EndFollows(size_t at) const;
  bool CutShortAt(size_t at) const;
  void AppendValue(size_t end);

  const std::string call_open_;
  const std::string call_close_;
  const std::string function_open_;
  const std::string function_close_;
  const std::string parameter_open_;
  const std::string parameter_close_;
  const ToolSchemas schemas_;
  ArgumentsWriter arguments_;
  Part part_ = Part::kHeader;
  const ToolSchema* tool_ = nullptr;  // of the open call; null if it is not declared
  size_t pairs_ = 0;                  // <parameter=…> lines of the value that await their close
  size_t wrappers_ = 0;               // likewise <tool_call> tags
  bool at_start_ = false;             // nothing of the value has been read
};

// Names hold no whitespace and no tag characters: `<parameter=` before a line break is no
// parameter.
Qwen3XmlParser::Named Qwen3XmlParser::MatchNamed(size_t at, std::string_view open,
                                                 size_t max_bytes) const {
  Named named;
  named.hit = Match(at, open);
  if (named.hit != Hit::kFull) {
    return named;
  }
  const size_t start = at + open.size();
  const size_t limit = std::min(in_.size(), start + max_bytes + 1);
  const size_t stop =
      std::string_view(in_).substr(0, limit).find_first_of("><\"' \t\r\n\xFF", start);
  if (stop == std::string_view::npos) {
    const bool open_ended = limit == in_.size() && limit - start <= max_bytes;
    named.hit = open_ended && !at_end_ ? Hit::kPartial : Hit::kNo;
    return named;
  }
  if (in_[stop] != '>' || stop == start) {
    named.hit = Hit::kNo;
    return named;
  }
  named.name = std::string_view(in_).substr(start, stop - start);
  named.end = stop + 1;
  return named;
}

MarkupParser::Opens Qwen3XmlParser::OpensCall(size_t at) {
  size_t function_at = at;
  const Hit open = Match(at, call_open_);
  if (open == Hit::kFull) {
    function_at = SkipGap(at + call_open_.size());
  }
  const Named function = MatchNamed(function_at, function_open_, kMaxNameBytes);
  if (open == Hit::kPartial || function.hit == Hit::kPartial) {
    return Opens::kWait;
  }
  if (function.hit != Hit::kFull) {
    return Opens::kNo;
  }
  // Without its wrapper it may be talk about the syntax, all the more where the model thinks.
  if (open != Hit::kFull && schemas_.Find(function.name) == nullptr &&
      (in_reasoning() || !at_line_start())) {
    return Opens::kNo;
  }
  StartFunction(function);
  return Opens::kYes;
}

void Qwen3XmlParser::StartFunction(const Named& function) {
  tool_ = schemas_.Find(function.name);
  sink_.OpenCall(function.name);
  arguments_.Open();
  pos_ = function.end;
  part_ = Part::kHeader;
}

void Qwen3XmlParser::FinishFunction() {
  arguments_.Close();
  sink_.CloseCall();
}

bool Qwen3XmlParser::StepCall() {
  switch (part_) {
    case Part::kHeader:
      return StepHeader();
    case Part::kValueStart:
      if (pos_ == in_.size()) {
        return false;
      }
      pos_ += in_[pos_] == '\n' ? 1 : 0;
      part_ = Part::kValue;
      return StepValue();
    case Part::kValue:
      return StepValue();
    case Part::kAfterFunction:
      return StepAfterFunction();
  }
  return false;
}

bool Qwen3XmlParser::StepHeader() {
  const size_t lead = FindLead(pos_);
  arguments_.Unread(WithoutMarks(std::string_view(in_).substr(pos_, lead - pos_)));
  pos_ = lead;
  if (pos_ == in_.size()) {
    return false;
  }
  const Named parameter = MatchNamed(pos_, parameter_open_, kMaxTagBytes);
  if (parameter.hit == Hit::kFull) {
    arguments_.BeginValue(parameter.name,
                          tool_ == nullptr ? SchemaRef() : tool_->Parameter(parameter.name),
                          ValueHint::kNone);
    pos_ = parameter.end;
    pairs_ = wrappers_ = 0;
    at_start_ = true;
    part_ = Part::kValueStart;
    return true;
  }
  const Hit function_close = Match(pos_, function_close_);
  if (function_close == Hit::kFull) {
    FinishFunction();
    pos_ += function_close_.size();
    part_ = Part::kAfterFunction;
    return true;
  }
  const Hit call_close = Match(pos_, call_close_);
  const Hit call_open = Match(pos_, call_open_);
  const Hit function_open = Match(pos_, function_open_);
  if (call_close == Hit::kFull || call_open == Hit::kFull || function_open == Hit::kFull) {
    // </function> is missing; whatever comes is judged as after it.
    FinishFunction();
    part_ = Part::kAfterFunction;
    return true;
  }
  for (const Hit hit : {parameter.hit, function_close, call_close, call_open, function_open}) {
    if (hit == Hit::kPartial) {
      return false;
    }
  }
  arguments_.Unread(WithoutMarks(std::string_view(in_).substr(pos_, 1)));
  ++pos_;
  return true;
}

bool Qwen3XmlParser::StepAfterFunction() {
  const size_t next = SkipGap(pos_);
  if (next == in_.size() && !at_end_ && next - pos_ < kMaxGapBytes) {
    return false;
  }
  const Hit close = Match(next, call_close_);
  const Named function = MatchNamed(next, function_open_, kMaxNameBytes);
  if (close == Hit::kPartial || function.hit == Hit::kPartial) {
    return false;
  }
  if (close == Hit::kFull) {
    pos_ = next + call_close_.size();
    LeaveCall();
  } else if (function.hit == Hit::kFull) {
    StartFunction(function);
  } else {
    LeaveCall();
  }
  return true;
}

void Qwen3XmlParser::AppendValue(size_t end) {
  const std::string_view text = std::string_view(in_).substr(pos_, end - pos_);
  at_start_ = at_start_ && text.empty();
  arguments_.Append(WithoutMarks(text));
  pos_ = end;
}

// Whether the output ends at `at`, or within a tag that could have followed a value there.
bool Qwen3XmlParser::CutShortAt(size_t at) const {
  const std::string_view rest = std::string_view(in_).substr(at);
  if (!at_end_ || rest.size() > kMaxTagBytes) {
    return false;
  }
  return function_close_.starts_with(rest) || parameter_open_.starts_with(rest) ||
         call_close_.starts_with(rest) ||
         (rest.starts_with(parameter_open_) && rest.find_first_of("> \n") == std::string::npos);
}

// What follows the </tool_call> of a call whose other closing tags may be missing: the end of the
// output or another call.
Qwen3XmlParser::Verdict Qwen3XmlParser::JudgeCallClose(size_t after) const {
  size_t next = SkipGap(after);
  const Hit open = Match(next, call_open_);
  if (open != Hit::kFull) {
    const bool cut = at_end_ && call_open_.starts_with(std::string_view(in_).substr(next));
    return open == Hit::kPartial ? Verdict::kWait : cut ? Verdict::kCloses : Verdict::kText;
  }
  next = SkipGap(next + call_open_.size());
  const Hit function = Match(next, function_open_);
  return function == Hit::kFull      ? Verdict::kCloses
         : function == Hit::kPartial ? Verdict::kWait
                                     : Verdict::kText;
}

// Whether a value ends at `at` without any tag that would follow it in a whole call.
Qwen3XmlParser::Verdict Qwen3XmlParser::EndFollows(size_t at) const {
  const Hit close = Match(at, call_close_);
  if (close == Hit::kPartial) {
    return Verdict::kWait;
  }
  const Verdict after = JudgeCallClose(at + (close == Hit::kFull ? call_close_.size() : 0));
  return close == Hit::kNo && CutShortAt(at) ? Verdict::kCloses : after;
}

Qwen3XmlParser::Verdict Qwen3XmlParser::JudgeParameterClose(size_t after) {
  const size_t next = SkipGap(after);
  const Hit function_close = Match(next, function_close_);
  if (function_close == Hit::kPartial) {
    return Verdict::kWait;
  }
  if (pairs_ > 0) {
    // The partner of a <parameter=…> line, unless the call ends here: then that line had none.
    return function_close == Hit::kFull ? JudgeFunctionClose(next + function_close_.size())
                                        : Verdict::kText;
  }
  if (function_close == Hit::kFull) {
    return Verdict::kCloses;
  }
  const Named parameter = MatchNamed(next, parameter_open_, kMaxTagBytes);
  if (parameter.hit == Hit::kPartial) {
    return Verdict::kWait;
  }
  if (parameter.hit == Hit::kFull) {
    // Without a schema any parameter may follow.
    const bool may_follow =
        tool_ == nullptr || !tool_->has_properties() || tool_->Declares(parameter.name);
    return may_follow ? Verdict::kCloses : Verdict::kText;
  }
  return EndFollows(next);
}

Qwen3XmlParser::Verdict Qwen3XmlParser::JudgeFunctionClose(size_t after) const {
  const size_t next = SkipGap(after);
  const Hit close = Match(next, call_close_);
  if (close == Hit::kPartial) {
    return Verdict::kWait;
  }
  if (close == Hit::kFull && wrappers_ == 0) {
    return JudgeCallClose(next + call_close_.size());
  }
  const size_t last = close == Hit::kFull ? SkipGap(next + call_close_.size()) : next;
  if (last < in_.size()) {
    return Verdict::kText;
  }
  return at_end_ ? Verdict::kCloses : Verdict::kWait;
}

// At most one decision on a tag; the text before it is written first. A newline right before a
// tag belongs to the tag if that closes the value.
bool Qwen3XmlParser::StepValue() {
  size_t at = pos_;
  while (at < in_.size() && in_[at] != '\n' && in_[at] != '<' && in_[at] != kSpecialMark) {
    ++at;
  }
  AppendValue(at);
  if (at == in_.size()) {
    return false;
  }
  const bool newline = in_[at] == '\n';
  const size_t tag = at + (newline ? 1 : 0);
  if (tag == in_.size() && !at_end_) {
    return false;
  }
  if (tag == in_.size() || (in_[tag] != '<' && in_[tag] != kSpecialMark)) {
    AppendValue(tag);
    return true;
  }
  const bool line_start = newline || at_start_;
  Verdict verdict = Verdict::kText;
  size_t tag_end = tag + 1;  // of what is written as one if it is text
  size_t resume = tag;       // where parsing goes on if it closes
  const Hit close = Match(tag, parameter_close_);
  const Named parameter = MatchNamed(tag, parameter_open_, kMaxTagBytes);
  const Hit function_close = Match(tag, function_close_);
  const Hit call_close = Match(tag, call_close_);
  const Hit call_open = Match(tag, call_open_);
  for (const Hit hit : {close, parameter.hit, function_close, call_close, call_open}) {
    if (hit == Hit::kPartial) {
      return false;
    }
  }
  if (close == Hit::kFull) {
    tag_end = resume = tag + parameter_close_.size();
    verdict = JudgeParameterClose(tag_end);
    if (verdict == Verdict::kText && pairs_ > 0) {
      --pairs_;
    }
  } else if (parameter.hit == Hit::kFull) {
    tag_end = parameter.end;
    const bool next_one = line_start && tool_ != nullptr && tool_->Declares(parameter.name) &&
                          !arguments_.Seen(parameter.name);
    verdict = next_one ? Verdict::kCloses : Verdict::kText;
    pairs_ += line_start && !next_one ? 1 : 0;
  } else if (function_close == Hit::kFull) {
    tag_end = tag + function_close_.size();
    verdict = JudgeFunctionClose(tag_end);
  } else if (call_open == Hit::kFull) {
    tag_end = tag + call_open_.size();
    ++wrappers_;
  } else if (call_close == Hit::kFull) {
    tag_end = tag + call_close_.size();
    verdict = wrappers_ == 0 ? JudgeCallClose(tag_end) : Verdict::kText;
    wrappers_ -= verdict == Verdict::kText && wrappers_ > 0 ? 1 : 0;
  }
  if (verdict == Verdict::kText) {
    AppendValue(tag_end);
  } else if (verdict == Verdict::kCloses) {
    arguments_.EndValue();
    pos_ = resume;
    part_ = Part::kHeader;
  }
  return verdict != Verdict::kWait;
}

void Qwen3XmlParser::EndCall(EndReason ended) {
  if (part_ == Part::kAfterFunction || ended == EndReason::kLength) {
    return;
  }
  if (part_ == Part::kValue || part_ == Part::kValueStart) {
    arguments_.AbandonValue();
  }
  FinishFunction();
}

}  // namespace

std::unique_ptr<OutputParser> MakeQwen3XmlParser(ParserOptions& options) {
  return std::make_unique<Qwen3XmlParser>(options);
}

}  // namespace mach::chat
