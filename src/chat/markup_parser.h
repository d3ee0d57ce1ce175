// Text in which think tags and calls are marked by tags: everything but harmony. Splits reasoning
// from content and hands over to the format where a call opens. By itself, a parser without calls.
// For use inside chat/ only.
//
// States: reasoning <-> content (by think tags), either -> call (OpensCall), call -> content.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "chat/parser_core.h"

namespace mach::chat {

class MarkupParser : public ParserCore {
 public:
  explicit MarkupParser(ParserOptions& options);

  bool InReasoning() const final { return state_ == State::kReasoning; }

 protected:
  enum class State { kReasoning, kContent, kCall };
  enum class Opens { kNo, kWait, kYes };

  // Whether a call opens at `at`, a lead byte. If so, consumes its opening (sets pos_) and prepares
  // StepCall; the caller changes the state.
  virtual Opens OpensCall(size_t /*at*/) { return Opens::kNo; }
  // Whether the marker that opens calls stands at `at` in full.
  virtual bool OpenerAt(size_t /*at*/) const { return false; }
  // One decision inside a call; LeaveCall ends it.
  virtual bool StepCall() { return false; }
  // The output ended inside a call.
  virtual void EndCall(EndReason /*ended*/) {}
  State state() const { return state_; }
  bool in_reasoning() const { return state_ == State::kReasoning; }
  void LeaveCall() {
    state_ = State::kContent;
    at_line_start_ = true;
  }
  void EmitContent(std::string_view text);

  // Text, shown or not, that ends at pos_; at_line_start then says whether a line
  // starts there.
  void Passed(std::string_view text) {
    at_line_start_ = text.empty() ? at_line_start_ : text.back() == '\n';
  }
  void PassedTag() { at_line_start_ = false; }
  bool at_line_start() const { return at_line_start_; }

 private:
  bool Step() final;
  bool StepText();
  bool StepLabel();
  bool CutOffInOpening(size_t at);
  void End(EndReason ended) final;
  void Emit(std::string_view text);

  State state_;
  bool thinks_;
  bool call_ends_reasoning_;
  bool at_line_start_ = true;
  bool awaits_label_;       // an opening tag may be followed by the name of what it opens
  std::string_view label_;  // that name, with its newline; empty = the format has none
  std::string think_open_;
  std::string think_close_;
};

}  // namespace mach::chat
