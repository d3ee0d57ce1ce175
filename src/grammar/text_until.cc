#include "grammar/text_until.h"

namespace mach::grammar {
namespace {

size_t CharacterSize(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

std::string Whole(const MarkerSteps& steps) {
  std::string regex;
  for (const MarkerStep& step : steps) {
    regex += step.character + (step.any_number ? "*" : "");
  }
  return regex;
}

// All that a marker can begin with, except itself and nothing.
std::string Beginnings(const MarkerSteps& steps) {
  std::string regex;  // of those that begin at the step behind this one
  for (size_t i = steps.size() - 1; i-- > 0;) {
    const std::string character = steps[i].character + (steps[i].any_number ? "+" : "");
    const std::string from_here = regex.empty() ? character : character + "(" + regex + ")?";
    regex = steps[i].any_number && !regex.empty() ? "(" + from_here + "|" + regex + ")" : from_here;
  }
  return regex;
}

std::string AnyOf(const std::vector<std::string>& regexes) {
  std::string any;
  for (const std::string& regex : regexes) {
    any += (any.empty() ? "(" : "|") + regex;
  }
  return any + ")";
}

}  // namespace

MarkerSteps Spelled(std::string_view text) {
  MarkerSteps steps;
  while (!text.empty()) {
    const std::string_view character = text.substr(0, CharacterSize(text.front()));
    steps.push_back({LarkText::Escaped(character)});
    text.remove_prefix(character.size());
  }
  return steps;
}

TextUntil::TextUntil(LarkText& lark, const std::vector<MarkerSteps>& markers) : lark_(lark) {
  std::vector<std::string> beginnings;
  std::string first;
  for (const MarkerSteps& marker : markers) {
    markers_.push_back(Whole(marker));
    beginnings.push_back(Beginnings(marker));
    if (first.find(marker.front().character) == std::string::npos) {
      first += marker.front().character;
    }
  }
  pending_ = AnyOf(beginnings);
  any_ = AnyOf(markers_);
  const std::string plain = lark.Terminal("/[^" + first + "]+/");
  const std::string no_marker = lark.Terminal("/" + pending_ + "+(?s:.)/ & ~/" + pending_ +
                                              "+/ & ~/(?s:.*)" + any_ + "(?s:.*)/");
  text_ = lark.Rule("(" + plain + " | " + no_marker + ")*");
}

std::string TextUntil::Marker(size_t index) const {
  std::string definition =
      "/" + pending_ + "*" + markers_[index] + "/ & ~/(?s:.*)" + any_ + "(?s:.+)/";
  if (index > 0) {
    const std::vector<std::string> before(markers_.begin(),
                                          markers_.begin() + static_cast<ptrdiff_t>(index));
    definition += " & ~/(?s:.*)" + AnyOf(before) + "/";
  }
  return lark_.Terminal(definition);
}

}  // namespace mach::grammar
