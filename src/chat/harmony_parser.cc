// gpt-oss's harmony: messages with a header that says what they are.
//
//   <|start|>assistant<|channel|>analysis<|message|>…<|end|>
//   <|start|>assistant<|channel|>commentary to=functions.F <|constrain|>json<|message|>{…}<|call|>
//   <|start|>assistant<|channel|>final<|message|>…<|return|>
//
// States: start -> header or body; header -> body (<|message|>); body -> between (<|end|>) or
// stopped (<|call|>, <|return|>); between -> header, and so does stopped where generation went on.
// The prompt already holds the first <|start|>assistant.
#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <string_view>

#include "chat/formats.h"
#include "chat/harmony_header.h"
#include "chat/json_arguments.h"
#include "chat/parser_core.h"

namespace mach::chat {
namespace {

constexpr std::string_view kWhitespace = " \t\r\n";

class HarmonyParser final : public ParserCore {
 public:
  explicit HarmonyParser(ParserOptions& options) : ParserCore(options) {
    constexpr std::array<std::string_view, kMarkers> kTexts = {
        "<|start|>", "<|channel|>", "<|constrain|>", "<|message|>",
        "<|end|>",   "<|call|>",    "<|return|>"};
    for (size_t i = 0; i < kMarkers; ++i) {
      markers_[i] = Marker(kTexts[i]);
    }
    sink_.SeparateContent("\n");
    sink_.SeparateReasoning("\n");
  }

  bool ShouldStop() const override { return stopped_ || ParserCore::ShouldStop(); }
  bool InReasoning() const override { return part_ == Part::kBody && body_ == Body::kReasoning; }

 protected:
  bool Step() override;
  void End(EndReason ended) override;

 private:
  enum MarkerIndex { kStart, kChannel, kConstrain, kMessage, kEnd, kCall, kReturn, kMarkers };
  enum class Part { kStartOfOutput, kHeader, kBody, kBetween, kStopped };
  enum class Body { kContent, kReasoning, kCall, kDropped };

  struct Found {
    Hit hit = Hit::kNo;
    MarkerIndex index = kMarkers;
  };

  Found MarkerAt(size_t at) const;
  bool CutMarkerAt(size_t at) const;
  bool StepStart();
  bool StepHeader();
  bool StepBody();
  bool StepBetween();
  bool StepStopped();
  void OpenBody(const HarmonyHeader& header);
  void BreakHeader(const std::string& text);
  static void AddSegment(HarmonyHeader& header, MarkerIndex before, std::string_view text);
  void BodyText(std::string_view text);
  void CallText(std::string_view text);
  void EndBody(bool complete);

  std::array<std::string, kMarkers> markers_;
  Part part_ = Part::kStartOfOutput;
  Body body_ = Body::kContent;
  bool stopped_ = false;
  JsonArguments arguments_;
  bool arguments_done_ = false;
  bool arguments_raw_ = false;  // no JSON: passed on as it is
};

HarmonyParser::Found HarmonyParser::MarkerAt(size_t at) const {
  Found found;
  for (size_t i = 0; i < kMarkers; ++i) {
    const Hit hit = Match(at, markers_[i]);
    if (hit == Hit::kFull) {
      return {hit, static_cast<MarkerIndex>(i)};
    }
    found.hit = hit == Hit::kPartial ? hit : found.hit;
  }
  return found;
}

bool HarmonyParser::Step() {
  switch (part_) {
    case Part::kStartOfOutput:
      return StepStart();
    case Part::kHeader:
      return StepHeader();
    case Part::kBody:
      return StepBody();
    case Part::kBetween:
      return StepBetween();
    case Part::kStopped:
      return StepStopped();
  }
  return false;
}

// A header, or an answer that does without.
bool HarmonyParser::StepStart() {
  const size_t first = SkipGap(pos_);
  const Found marker = MarkerAt(first);
  const Hit recipient = Match(first, "to=");
  if (marker.hit == Hit::kPartial || recipient == Hit::kPartial) {
    return false;
  }
  const bool header = marker.hit == Hit::kFull || recipient == Hit::kFull;
  part_ = header ? Part::kHeader : Part::kBody;
  body_ = Body::kContent;
  return true;
}

void HarmonyParser::AddSegment(HarmonyHeader& header, MarkerIndex before, std::string_view text) {
  header.Add(before == kChannel ? HarmonyHeader::Part::kChannel
             : before == kStart ? HarmonyHeader::Part::kRole
                                : HarmonyHeader::Part::kOther,
             text);
}

bool HarmonyParser::StepHeader() {
  HarmonyHeader header;
  MarkerIndex before = kMarkers;
  size_t at = pos_;
  bool first = true;
  while (true) {
    size_t lead = FindLead(at);
    Found marker = MarkerAt(lead);
    while (lead < in_.size() && marker.hit == Hit::kNo) {
      lead = FindLead(lead + 1);
      marker = MarkerAt(lead);
    }
    if (lead - pos_ > kMaxTagBytes) {
      BreakHeader(header.text + in_.substr(at, lead - at));
      pos_ = lead;
      return true;
    }
    if (lead == in_.size() || marker.hit == Hit::kPartial) {
      return false;
    }
    AddSegment(header, before, std::string_view(in_).substr(at, lead - at));
    before = marker.index;
    at = lead + markers_[marker.index].size();
    if (marker.index == kMessage) {
      pos_ = at;
      OpenBody(header);
      return true;
    }
    if (marker.index >= kEnd || (marker.index == kStart && !first)) {
      // No message comes of it; the marker is read again as the end of the text.
      BreakHeader(header.text);
      pos_ = lead;
      return true;
    }
    first = false;
  }
}

void HarmonyParser::BreakHeader(const std::string& text) {
  body_ = Body::kContent;
  part_ = Part::kBody;
  const size_t visible = std::min(text.find_first_not_of(kWhitespace), text.size());
  // What stands for the speaker is no part of what was said.
  const std::string_view said = std::string_view(text).substr(visible);
  sink_.Content(WithoutMarks(said.starts_with("assistant") ? said.substr(9) : said));
}

void HarmonyParser::OpenBody(const HarmonyHeader& header) {
  part_ = Part::kBody;
  if (!header.role.empty() && !header.role.starts_with("assistant")) {
    body_ = Body::kDropped;  // a tool's answer that the model made up
    return;
  }
  std::string_view name = header.recipient;
  if (!name.empty() && !header.ForBuiltIn()) {
    name.remove_prefix(name.starts_with("functions.") ? 10 : 0);
    body_ = name.empty() ? Body::kDropped : Body::kCall;
    if (body_ == Body::kCall) {
      sink_.OpenCall(WithoutMarks(name));
      arguments_ = {};
      arguments_done_ = arguments_raw_ = false;
    }
    return;
  }
  const std::string_view channel = header.KnownChannel();
  if (header.has_channel && channel.empty()) {
    BreakHeader(header.text);
    return;
  }
  if (!header.has_channel || channel == "final") {
    body_ = Body::kContent;
  } else if (!name.empty()) {
    body_ = Body::kDropped;
  } else {
    body_ = channel == "analysis" ? Body::kReasoning : Body::kContent;
  }
}

void HarmonyParser::CallText(std::string_view text) {
  for (size_t i = 0; i < text.size(); ++i) {
    if (arguments_raw_) {
      sink_.Arguments(text.substr(i));
      return;
    }
    if (arguments_done_) {
      if (kWhitespace.find(text[i]) != std::string_view::npos) {
        continue;
      }
      sink_.Arguments(arguments_.Close(false) + std::string(text.substr(i)));
      arguments_raw_ = true;
      return;
    }
    switch (arguments_.Feed(text[i])) {
      case JsonScanner::Status::kMore:
        break;
      case JsonScanner::Status::kDone:
        arguments_done_ = true;
        break;
      case JsonScanner::Status::kDoneBefore:
        arguments_done_ = true;
        --i;
        break;
      case JsonScanner::Status::kBroken:
        sink_.Arguments(arguments_.Rest());
        arguments_raw_ = true;
        break;
    }
  }
  if (!arguments_raw_) {
    sink_.Arguments(arguments_.Take());
  }
}

void HarmonyParser::BodyText(std::string_view marked) {
  const std::string text = WithoutMarks(marked);
  switch (body_) {
    case Body::kContent:
      sink_.Content(text);
      break;
    case Body::kReasoning:
      sink_.Reasoning(text);
      break;
    case Body::kCall:
      CallText(text);
      break;
    case Body::kDropped:
      break;
  }
}

// `complete`: by a marker or because the model had finished, not because it was cut off.
void HarmonyParser::EndBody(bool complete) {
  switch (body_) {
    case Body::kContent:
      sink_.EndContent();
      break;
    case Body::kReasoning:
      sink_.EndReasoning();
      break;
    case Body::kCall:
      if (complete) {
        if (!arguments_raw_) {
          sink_.Arguments(arguments_.Take());
          sink_.CutArguments();
          sink_.Arguments(arguments_done_ ? arguments_.Close(false) : arguments_.Complete());
        }
        sink_.CloseCall();
      }
      break;
    case Body::kDropped:
      break;
  }
  body_ = Body::kDropped;
}

// Whether the output ends with the first part of a marker.
bool HarmonyParser::CutMarkerAt(size_t at) const {
  const std::string_view rest = std::string_view(in_).substr(at);
  return std::any_of(markers_.begin(), markers_.end(),
                     [&](const std::string& marker) { return marker.starts_with(rest); });
}

bool HarmonyParser::StepBody() {
  const size_t lead = FindLead(pos_);
  BodyText(std::string_view(in_).substr(pos_, lead - pos_));
  pos_ = lead;
  if (lead == in_.size()) {
    return false;
  }
  const Found marker = MarkerAt(lead);
  if (marker.hit == Hit::kPartial) {
    return false;
  }
  if (marker.hit == Hit::kNo) {
    if (at_end_ && body_ == Body::kCall && arguments_done_ && CutMarkerAt(lead)) {
      pos_ = in_.size();  // after arguments that are complete it can be nothing else
      return false;
    }
    BodyText(std::string_view(in_).substr(lead, 1));
    ++pos_;
    return true;
  }
  switch (marker.index) {
    case kStart:
    case kChannel:
      EndBody(true);  // <|end|> is missing
      part_ = Part::kHeader;
      return true;
    case kEnd:
      EndBody(true);
      part_ = Part::kBetween;
      break;
    case kCall:
    case kReturn:
      EndBody(true);
      part_ = Part::kStopped;
      stopped_ = true;
      break;
    default:
      break;
  }
  pos_ += markers_[marker.index].size();
  return true;
}

bool HarmonyParser::StepBetween() {
  const size_t next = SkipGap(pos_);
  const Found marker = MarkerAt(next);
  if (marker.hit == Hit::kPartial) {
    return false;
  }
  pos_ = next;
  if (next == in_.size()) {
    return false;
  }
  body_ = Body::kContent;
  const bool header = marker.hit == Hit::kFull && marker.index < kEnd;
  part_ = header ? Part::kHeader : Part::kBody;
  return true;
}

// Only another message counts.
bool HarmonyParser::StepStopped() {
  pos_ = FindLead(pos_);
  const Found marker = MarkerAt(pos_);
  if (pos_ == in_.size() || marker.hit == Hit::kPartial) {
    return false;
  }
  if (marker.hit == Hit::kFull && marker.index == kStart) {
    part_ = Part::kHeader;
  } else {
    ++pos_;
  }
  return true;
}

// A header that is cut off is dropped if it could have become one.
void HarmonyParser::End(EndReason ended) {
  if (part_ == Part::kHeader) {
    HarmonyHeader header;
    MarkerIndex before = kMarkers;
    size_t at = pos_;
    while (at < in_.size()) {
      size_t lead = FindLead(at);
      while (lead < in_.size() && MarkerAt(lead).hit == Hit::kNo) {
        lead = FindLead(lead + 1);
      }
      AddSegment(header, before, std::string_view(in_).substr(at, lead - at));
      if (lead == in_.size()) {
        break;
      }
      before = MarkerAt(lead).index;
      at = lead + markers_[before].size();
    }
    if (!header.MayBecomeOne()) {
      BreakHeader(header.text);
    }
  } else if (part_ == Part::kBody) {
    if (body_ == Body::kContent) {
      return;  // whitespace may still be all there is
    }
    EndBody(ended == EndReason::kStop);
  }
}

}  // namespace

std::unique_ptr<OutputParser> MakeHarmonyParser(ParserOptions& options) {
  return std::make_unique<HarmonyParser>(options);
}

}  // namespace mach::chat
