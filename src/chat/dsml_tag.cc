#include "chat/dsml_tag.h"

#include "chat/parser_core.h"

namespace mach::chat {

AttributesEnd ReadAttributes(std::string_view text, DsmlAttributes& attributes, size_t& length) {
  size_t next = 0;
  while (true) {
    const size_t word = text.find_first_not_of(" \t\r\n", next);
    if (word == std::string_view::npos) {
      return AttributesEnd::kNotYet;
    }
    if (text[word] == '>') {
      length = word + 1;
      return AttributesEnd::kClosed;
    }
    if (text[word] == '/' && !attributes.closed) {
      attributes.closed = true;
      next = word + 1;
      continue;
    }
    const size_t equals = text.find_first_of("=<>\"\xFF", word);
    if (equals == std::string_view::npos || (text[equals] == '=' && equals + 1 == text.size())) {
      return AttributesEnd::kNotYet;
    }
    if (word == next || text[equals] != '=' || text[equals + 1] != '"') {
      return AttributesEnd::kNone;
    }
    const size_t quote = text.find('"', equals + 2);
    if (quote == std::string_view::npos) {
      return AttributesEnd::kNotYet;
    }
    const std::string_view name = text.substr(word, equals - word);
    const std::string value = WithoutMarks(text.substr(equals + 2, quote - equals - 2));
    if (name == "name") {
      attributes.name = value;
    } else if (name == "string") {
      attributes.string = value;
    }
    next = quote + 1;
  }
}

}  // namespace mach::chat
