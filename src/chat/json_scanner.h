// Reads one JSON value character by character and says where its parts begin and end, without
// keeping any of it. Stricter than needed nowhere and more lenient only in what models write: line
// breaks and tabs inside strings, and a comma before a closing bracket. For use inside chat/ only.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

namespace mach::chat {

class JsonScanner {
 public:
  enum class Status {
    kMore,        // consumed; the value goes on
    kDone,        // consumed; the value is complete
    kDoneBefore,  // not consumed: a number had ended before this character
    kBroken       // no JSON
  };

  // What the last character was, as far as it began or ended something.
  enum class Mark { kNone, kStringOpen, kStringClose, kValueOpen, kValueClose };

  Status Feed(char c);

  Mark mark() const { return mark_; }
  // The last character came right after the end of a number that the enclosing container holds.
  bool number_ended_before() const { return number_ended_before_; }
  // The last character closed a container after a comma that has no item behind it.
  bool comma_too_many() const { return comma_too_many_; }
  // What closes the innermost open container.
  char closing_bracket() const { return open_.back() == '{' ? '}' : ']'; }
  bool in_key() const { return in_key_; }
  bool in_string() const { return state_ == State::kString || state_ >= State::kEscape; }
  size_t depth() const { return open_.size(); }

 private:
  enum class State {
    kValue,
    kFirstItem,  // a value or ]
    kFirstKey,   // a key or }
    kNextItem,   // after a comma
    kNextKey,
    kColon,
    kAfterValue,  // , or the closing bracket
    kLiteral,
    kMinus,
    kZero,
    kInteger,
    kPoint,
    kFraction,
    kExponent,
    kExponentSign,
    kExponentDigits,
    kDone,
    kString,
    kEscape,
    kHex
  };

  Status Open(char c);
  Status Close(Mark mark);
  Status CloseContainer();
  Status AfterValue(char c);
  Status Number(char c);
  Status Inside(char c);

  State state_ = State::kValue;
  std::vector<char> open_;
  std::string_view literal_;  // what is still to come of true, false or null
  int hex_left_ = 0;
  bool in_key_ = false;
  bool number_ended_before_ = false;
  bool comma_too_many_ = false;
  Mark mark_ = Mark::kNone;
};

}  // namespace mach::chat
