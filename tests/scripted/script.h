// What a scripted model says: rules in order, each with a condition on the conversation and a
// reply. Read from JSON:
//
//   {"rules": [
//     {"contains": ["a", "b"],     all of them, somewhere in the rendered conversation
//      "lacks": ["c"],             none of them
//      "last": ["d"],              all of them, in the last message
//      "after_tool": true,         whether the last message is the result of a tool
//      "nth": 2,                   of the requests that match all else, counted from 1
//      "reasoning": "hm",          said before the text where the prompt opened a thought
//      "text": "<tool_call>…",     special tokens by their names
//      "token_ms": 5,              that each token takes
//      "prefill_ms": 100}]}        that the prompt takes
//
// All fields may be left out; lists may be one string. The first rule that matches speaks.
#pragma once

#include <cstdint>
#include <fstream>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mach::testing {

struct Reply {
  std::string reasoning;
  std::string text;
  double token_s = 0;
  double prefill_s = 0;
};

struct Conversation {
  std::string_view all;   // as the model sees it
  std::string_view last;  // its last message; everything, where there are no messages
  bool after_tool = false;
};

// Any thread.
class Script {
 public:
  // Throws kCorruptFile with the rule's number.
  Script(std::string_view json, std::string_view source);

  // From now on each conversation is written to this file as it comes, one line of JSON each.
  void RecordTo(const std::string& path);

  // Counts the request.
  Reply Choose(const Conversation& conversation);

 private:
  struct Rule {
    std::vector<std::string> contains;
    std::vector<std::string> lacks;
    std::vector<std::string> last;
    std::optional<bool> after_tool;
    int64_t nth = 0;  // 0 = each
    Reply reply;
    int64_t matched = 0;

    bool Fits(const Conversation& conversation) const;
  };

  std::mutex mutex_;
  std::vector<Rule> rules_;
  std::ofstream record_;
};

}  // namespace mach::testing
