// Arguments that the model writes as JSON, passed on as they come: an object's string members as
// they are generated, its other members once complete, so that what was sent can always be
// completed to an object. For formats whose calls are JSON (Hermes, harmony); for use inside
// chat/ only.
#pragma once

#include <string>

#include "chat/json_scanner.h"

namespace mach::chat {

class JsonArguments {
 public:
  using Status = JsonScanner::Status;

  // The next character of the value. After kBroken or kDone only Take, Close, Rest and Complete.
  Status Feed(char c);

  // What may be sent now.
  std::string Take();

  // Feeds the closing brackets that are missing; false if those are not all that is missing.
  bool CloseBrackets();

  // The next character is a string's.
  bool in_string() const { return scanner_.in_string(); }

  // After kDone or kDoneBefore: the rest, which ends the value. With `unwrap`, a string that holds
  // a JSON object becomes that object, and null an empty one.
  std::string Close(bool unwrap);
  // Instead, at any time: the rest that makes an object of what was sent.
  std::string Complete();
  // Instead, at any time: the rest of what was fed, as it was written.
  std::string Rest();

 private:
  void FeedObject(char c);
  void FeedString(char c);
  void Flush();
  void DropComma();

  JsonScanner scanner_;
  std::string ready_;  // may be sent
  std::string held_;   // of the current member, not sent yet
  std::string escape_;
  bool started_ = false;
  bool object_ = false;
  bool in_member_string_ = false;
  bool string_shown_ = false;
};

}  // namespace mach::chat
