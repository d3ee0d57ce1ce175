// DeepSeek's DSML calls: tags like XML whose names carry a special token, values verbatim between
// them. For V3.2 and V4, which differ in the name of the outer tag.
#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "chat/arguments_writer.h"
#include "chat/formats.h"
#include "chat/markup_parser.h"

namespace mach::chat {
namespace {

// The only parameter of a call so far, if it may turn out to hold all arguments.
struct Envelope {
  std::string key;
  std::string value;
  ValueHint hint = ValueHint::kNone;
  bool closed = false;
};

class DsmlParser final : public MarkupParser {
 public:
  DsmlParser(ParserOptions& options, const std::string& wrapper)
      : MarkupParser(options),
        wrapper_open_(Marker("<｜DSML｜" + wrapper + ">")),
        wrapper_close_(Marker("</｜DSML｜" + wrapper + ">")),
        invoke_open_(Marker("<｜DSML｜invoke")),
        invoke_close_(Marker("</｜DSML｜invoke>")),
        parameter_open_(Marker("<｜DSML｜parameter")),
        parameter_close_(Marker("</｜DSML｜parameter>")),
        schemas_(options.tools),
        arguments_(sink_) {}

 protected:
  Opens OpensCall(size_t at) override;
  bool OpenerAt(size_t at) const override { return Match(at, wrapper_open_) == Hit::kFull; }
  bool StepCall() override;
  void EndCall(EndReason ended) override;

 private:
  enum class Part {
    kHeader,      // inside an invocation, between parameters
    kValue,       // inside a parameter
    kAfterInvoke  // inside the wrapper, between invocations
  };

  // An opening tag with attributes.
  struct Tag {
    Hit hit = Hit::kNo;
    size_t end = 0;
    std::string name;
    std::string string;
  };

  Tag MatchTag(size_t at, std::string_view open) const;
  void StartInvoke(const Tag& invoke);
  void FinishInvoke();
  void StartParameter(const Tag& parameter);
  void AppendValue(std::string_view text);
  void EndValue();
  void KeepEnvelope();
  bool StepHeader();
  bool StepValue();
  bool StepAfterInvoke();

  const std::string wrapper_open_;
  const std::string wrapper_close_;
  const std::string invoke_open_;
  const std::string invoke_close_;
  const std::string parameter_open_;
  const std::string parameter_close_;
  const ToolSchemas schemas_;
  ArgumentsWriter arguments_;
  Part part_ = Part::kHeader;
  const ToolSchema* tool_ = nullptr;
  bool any_parameter_ = false;
  std::optional<Envelope> envelope_;
};

// `open`, then attributes as name="value", then '>'.
DsmlParser::Tag DsmlParser::MatchTag(size_t at, std::string_view open) const {
  Tag tag;
  tag.hit = Match(at, open);
  if (tag.hit != Hit::kFull) {
    return tag;
  }
  const size_t limit = std::min(in_.size(), at + open.size() + kMaxTagBytes);
  const std::string_view text = std::string_view(in_).substr(0, limit);
  const bool cut = limit == in_.size() && limit < at + open.size() + kMaxTagBytes && !at_end_;
  const Hit unfinished = cut ? Hit::kPartial : Hit::kNo;
  size_t next = at + open.size();
  while (true) {
    const size_t word = text.find_first_not_of(" \t\r\n", next);
    if (word == std::string_view::npos) {
      tag.hit = unfinished;
      return tag;
    }
    if (text[word] == '>') {
      tag.hit = tag.name.empty() ? Hit::kNo : Hit::kFull;
      tag.end = word + 1;
      return tag;
    }
    const size_t equals = text.find_first_of("=<>\"\xFF", word);
    if (equals == std::string_view::npos || (text[equals] == '=' && equals + 1 == limit)) {
      tag.hit = unfinished;
      return tag;
    }
    if (word == next || text[equals] != '=' || text[equals + 1] != '"') {
      tag.hit = Hit::kNo;
      return tag;
    }
    const size_t quote = text.find('"', equals + 2);
    if (quote == std::string_view::npos) {
      tag.hit = unfinished;
      return tag;
    }
    const std::string_view name = text.substr(word, equals - word);
    const std::string value = WithoutMarks(text.substr(equals + 2, quote - equals - 2));
    if (name == "name") {
      tag.name = value;
    } else if (name == "string") {
      tag.string = value;
    }
    next = quote + 1;
  }
}

MarkupParser::Opens DsmlParser::OpensCall(size_t at) {
  const Hit wrapper = Match(at, wrapper_open_);
  if (wrapper != Hit::kFull) {
    return wrapper == Hit::kPartial ? Opens::kWait : Opens::kNo;
  }
  const Tag invoke = MatchTag(SkipGap(at + wrapper_open_.size()), invoke_open_);
  if (invoke.hit != Hit::kFull) {
    return invoke.hit == Hit::kPartial ? Opens::kWait : Opens::kNo;
  }
  StartInvoke(invoke);
  return Opens::kYes;
}

void DsmlParser::StartInvoke(const Tag& invoke) {
  tool_ = schemas_.Find(invoke.name);
  sink_.OpenCall(invoke.name);
  arguments_.Open();
  any_parameter_ = false;
  envelope_.reset();
  pos_ = invoke.end;
  part_ = Part::kHeader;
}

void DsmlParser::FinishInvoke() {
  if (envelope_ && envelope_->closed) {
    if (const auto object = DeclaredObject(envelope_->value, *tool_)) {
      arguments_.Whole(*object);
      sink_.CloseCall();
      return;
    }
    KeepEnvelope();
  }
  arguments_.Close();
  sink_.CloseCall();
}

void DsmlParser::StartParameter(const Tag& parameter) {
  if (envelope_) {
    KeepEnvelope();
  }
  const SchemaRef schema = tool_ == nullptr ? SchemaRef() : tool_->Parameter(parameter.name);
  const ValueHint hint = parameter.string == "false"  ? ValueHint::kJson
                         : parameter.string == "true" ? ValueHint::kString
                                                      : ValueHint::kNone;
  if (!any_parameter_ && tool_ != nullptr && tool_->has_properties() && !schema.present() &&
      (parameter.name == "arguments" || parameter.name == "input")) {
    envelope_.emplace();
    envelope_->key = parameter.name;
    envelope_->hint = hint;
  } else {
    arguments_.BeginValue(parameter.name, schema, hint);
  }
  any_parameter_ = true;
  pos_ = parameter.end;
  part_ = Part::kValue;
}

// It was an ordinary parameter after all.
void DsmlParser::KeepEnvelope() {
  arguments_.BeginValue(envelope_->key, SchemaRef(), envelope_->hint);
  arguments_.Append(envelope_->value);
  arguments_.EndValue();
  envelope_.reset();
}

void DsmlParser::AppendValue(std::string_view text) {
  const std::string plain = WithoutMarks(text);
  if (envelope_) {
    envelope_->value += plain;
  } else {
    arguments_.Append(plain);
  }
}

void DsmlParser::EndValue() {
  if (envelope_) {
    envelope_->closed = true;
  } else {
    arguments_.EndValue();
  }
}

bool DsmlParser::StepCall() {
  switch (part_) {
    case Part::kHeader:
      return StepHeader();
    case Part::kValue:
      return StepValue();
    case Part::kAfterInvoke:
      return StepAfterInvoke();
  }
  return false;
}

bool DsmlParser::StepHeader() {
  pos_ = FindLead(pos_);
  if (pos_ == in_.size()) {
    return false;
  }
  const Tag parameter = MatchTag(pos_, parameter_open_);
  if (parameter.hit == Hit::kFull) {
    StartParameter(parameter);
    return true;
  }
  const Hit invoke_close = Match(pos_, invoke_close_);
  const Hit wrapper_close = Match(pos_, wrapper_close_);
  const Tag invoke = MatchTag(pos_, invoke_open_);
  if (invoke_close == Hit::kFull || wrapper_close == Hit::kFull || invoke.hit == Hit::kFull) {
    FinishInvoke();
    pos_ += invoke_close == Hit::kFull ? invoke_close_.size() : 0;
    part_ = Part::kAfterInvoke;
    return true;
  }
  for (const Hit hit : {parameter.hit, invoke_close, wrapper_close, invoke.hit}) {
    if (hit == Hit::kPartial) {
      return false;
    }
  }
  ++pos_;
  return true;
}

bool DsmlParser::StepValue() {
  const size_t lead = FindLead(pos_);
  AppendValue(std::string_view(in_).substr(pos_, lead - pos_));
  pos_ = lead;
  if (lead == in_.size()) {
    return false;
  }
  const Hit close = Match(lead, parameter_close_);
  const Hit invoke_close = Match(lead, invoke_close_);
  const Hit wrapper_close = Match(lead, wrapper_close_);
  const Hit parameter = MatchTag(lead, parameter_open_).hit;
  const Hit invoke = MatchTag(lead, invoke_open_).hit;
  bool partial = false;
  for (const Hit hit : {close, invoke_close, wrapper_close, parameter, invoke}) {
    if (hit == Hit::kFull) {
      EndValue();
      pos_ += close == Hit::kFull ? parameter_close_.size() : 0;
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
  if (wrapper_close == Hit::kPartial || invoke.hit == Hit::kPartial) {
    return false;
  }
  EmitContent(std::string_view(in_).substr(lead, 1));
  ++pos_;
  return true;
}

void DsmlParser::EndCall(EndReason ended) {
  if (part_ == Part::kAfterInvoke || ended == EndReason::kLength) {
    return;
  }
  if (part_ == Part::kValue) {
    if (envelope_) {
      envelope_.reset();
    } else {
      arguments_.AbandonValue();
    }
  }
  FinishInvoke();
}

}  // namespace

std::unique_ptr<OutputParser> MakeDsmlParser(ParserOptions& options, const char* wrapper) {
  return std::make_unique<DsmlParser>(options, wrapper);
}

}  // namespace mach::chat
