// Free text up to a marker that ordinary tokens spell, for grammars. For use inside grammar/ only.
//
// It is cut into terminals of three kinds, none of which can go on into another:
//   plain text without any character that begins a marker,
//   what looks like the beginning of a marker and then is none, with the character that shows it,
//   a marker, with all before it that looked like one.
// In plain text llguidance knows without walking the vocabulary which tokens are allowed
// (kPlainText), and that is where nearly all tokens of a long argument are.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "grammar/lark_text.h"

namespace mach::grammar {

// Tokens that are allowed in plain text whatever the markers, all of which begin with what this
// leaves out.
inline constexpr const char* kPlainText = R"([^<]+)";

// A character of a marker, as a regular expression.
struct MarkerStep {
  std::string character;
  bool any_number = false;  // of it, or none; not the first one
};
using MarkerSteps = std::vector<MarkerStep>;

MarkerSteps Spelled(std::string_view text);

class TextUntil {
 public:
  // Text that holds none of the markers.
  TextUntil(LarkText& lark, const std::vector<MarkerSteps>& markers);

  // Expressions for the text, and for the marker that follows it. Of two that end at the same place
  // it is the first in the list.
  const std::string& text() const { return text_; }
  std::string Marker(size_t index) const;

 private:
  LarkText& lark_;
  std::vector<std::string> markers_;  // all as regular expressions
  std::string pending_;               // text that is the beginning of one, or of several
  std::string any_;                   // any one of them
  std::string text_;
};

}  // namespace mach::grammar
