#include "chat/markup_parser.h"

namespace mach::chat {

MarkupParser::MarkupParser(ParserOptions& options)
    : ParserCore(options),
      state_(options.starts_in == StartsIn::kReasoning &&
                     options.reasoning != ReasoningFormat::kNone
                 ? State::kReasoning
                 : State::kContent),
      thinks_(options.reasoning != ReasoningFormat::kNone),
      call_ends_reasoning_(options.reasoning != ReasoningFormat::kDeepseekR1),
      awaits_label_(false) {
  if (options.reasoning == ReasoningFormat::kGemma4) {
    think_open_ = Marker("<|channel>");
    think_close_ = Marker("<channel|>");
    label_ = "thought\n";
  } else if (thinks_) {
    think_open_ = Marker("<think>");
    think_close_ = Marker("</think>");
  }
  awaits_label_ = state_ == State::kReasoning && !label_.empty();
}

void MarkupParser::EmitContent(std::string_view text) {
  Passed(text);
  if (text.find(kSpecialMark) == std::string_view::npos) {
    sink_.Content(text);
  } else {
    sink_.Content(WithoutMarks(text));
  }
}

void MarkupParser::Emit(std::string_view text) {
  if (state_ == State::kContent) {
    EmitContent(text);
  } else {
    Passed(text);
    sink_.Reasoning(WithoutMarks(text));
  }
}

bool MarkupParser::Step() {
  return state_ == State::kCall ? StepCall() : StepText();
}

// Whether generation was cut off inside what would have become a call: that is not shown.
bool MarkupParser::CutOffInOpening(size_t at) {
  if (!cut_off_ || !OpenerAt(at)) {
    return false;
  }
  at_end_ = false;
  const bool undecided = OpensCall(at) == Opens::kWait;
  at_end_ = true;
  return undecided;
}

// False: more input is needed.
bool MarkupParser::StepLabel() {
  const Hit label = Match(pos_, label_);
  if (label == Hit::kPartial) {
    return false;
  }
  awaits_label_ = false;
  const bool cut = at_end_ && label_.starts_with(std::string_view(in_).substr(pos_));
  pos_ += label == Hit::kFull ? label_.size() : cut ? in_.size() - pos_ : 0;
  return true;
}

bool MarkupParser::StepText() {
  if (awaits_label_ && !StepLabel()) {
    return false;
  }
  const size_t lead = FindLead(pos_);
  if (lead > pos_) {
    Emit(std::string_view(in_).substr(pos_, lead - pos_));
    pos_ = lead;
  }
  if (lead == in_.size()) {
    return false;
  }
  bool wait = false;
  if (thinks_) {
    const Hit open = Match(lead, think_open_);
    const Hit close = Match(lead, think_close_);
    if (open == Hit::kFull || close == Hit::kFull) {
      pos_ += open == Hit::kFull ? think_open_.size() : think_close_.size();
      if (open == Hit::kFull && state_ == State::kContent) {
        sink_.EndContent();
        state_ = State::kReasoning;
      } else if (close == Hit::kFull && state_ == State::kReasoning) {
        sink_.EndReasoning();
        state_ = State::kContent;
      }
      at_line_start_ = true;
      awaits_label_ = open == Hit::kFull && !label_.empty();
      return true;
    }
    wait = open == Hit::kPartial || close == Hit::kPartial;
  }
  if (state_ == State::kContent || call_ends_reasoning_) {
    if (CutOffInOpening(lead)) {
      pos_ = in_.size();
      return false;
    }
    switch (OpensCall(lead)) {
      case Opens::kYes:
        sink_.EndReasoning();
        state_ = State::kCall;
        return true;
      case Opens::kWait:
        wait = true;
        break;
      case Opens::kNo:
        break;
    }
  }
  if (wait) {
    return false;
  }
  Emit(std::string_view(in_).substr(lead, 1));
  pos_ = lead + 1;
  return true;
}

void MarkupParser::End(EndReason ended) {
  if (state_ == State::kCall) {
    EndCall(ended);
  } else if (state_ == State::kReasoning) {
    sink_.EndReasoning();
  }
}

}  // namespace mach::chat
