// Where parsers put what they found: joins neighbouring text into one delta, numbers calls, keeps
// back whitespace that may turn out to surround a call, and hides calls beyond the first where the
// request forbids several, or content where it wants none. For use inside chat/ only; belongs to
// one parser.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "chat/output_parser.h"

namespace mach::chat {

class DeltaSink {
 public:
  DeltaSink(std::function<std::string()> new_call_id, bool one_call, bool with_content);

  // Deltas go to `out` from now on; those already there are not touched.
  void Attach(std::vector<ChatDelta>& out);

  void Content(std::string_view text);
  void Reasoning(std::string_view text);
  // Content and reasoning come in stretches. Whitespace at the start of one waits for something
  // visible; a stretch that has nothing visible is dropped.
  void EndContent();
  void EndReasoning();
  // Put between this stretch's text and the next one's, if both have any.
  void SeparateContent(std::string_view separator) { content_.separator = separator; }
  void SeparateReasoning(std::string_view separator) { reasoning_.separator = separator; }

  void OpenCall(std::string_view name);
  // JSON text; joined with the previous one of this push unless CutArguments came between.
  void Arguments(std::string_view json);
  void CutArguments() { cut_ = true; }
  void CloseCall();

  // Whitespace that is all the content of an answer without calls is content after all.
  void Finish();

  bool any_call() const { return calls_ > 0; }
  bool first_call_is_all() const { return one_call_ && closed_ > 0; }

 private:
  struct Stretch {
    std::string held;  // whitespace before anything visible
    std::string_view separator;
    bool visible = false;  // this stretch
    bool any = false;      // any stretch so far
  };

  void Text(Stretch& stretch, ChatDelta::Kind kind, std::string_view text);
  void Append(ChatDelta::Kind kind, std::string_view text);
  bool Hidden() const { return one_call_ && calls_ > 1; }

  std::function<std::string()> new_call_id_;
  bool one_call_;
  bool with_content_;
  std::vector<ChatDelta>* out_ = nullptr;
  size_t first_own_ = 0;  // deltas of this push start here
  Stretch content_;
  Stretch reasoning_;
  bool cut_ = false;
  int32_t calls_ = 0;   // opened, hidden ones included
  int32_t closed_ = 0;  // likewise
};

}  // namespace mach::chat
