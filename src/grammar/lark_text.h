// The text of a grammar as it is put together. For use inside grammar/ only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "grammar/grammar.h"

namespace mach::grammar {

class LarkText {
 public:
  // For grammars of this compiler, which outlives this.
  explicit LarkText(const Compiler& compiler) : compiler_(compiler) {}

  // An expression for a text of ordinary tokens.
  static std::string Quoted(std::string_view text);
  // A text as part of a regular expression between slashes.
  static std::string Escaped(std::string_view text);

  // The id of a marker that is one token, of whatever kind.
  std::optional<int32_t> TokenOf(std::string_view marker) const;
  // Whether a marker is a token that no text can hold.
  bool StandsApart(std::string_view marker) const;
  // An expression for a marker: the token if it is one, else its text.
  std::string Marker(std::string_view marker) const;

  // Each adds a rule and returns its name.
  std::string Rule(const std::string& body);
  // `body` is given the name, to refer to itself.
  template <typename F>
  std::string Recursive(const F& body) {
    std::string name = Name("r");
    const std::string text = body(static_cast<const std::string&>(name));
    rules_ += name + ": " + text + "\n";
    return name;
  }
  std::string Json(const nlohmann::ordered_json& admitted);
  // A terminal: regular expressions with & and ~.
  std::string Terminal(const std::string& definition);

  // One of these texts. A terminal, as the rows of a parser have no room for thousands of rules.
  std::string OneOf(const std::vector<std::string>& texts);

  // One of several members, in any order and each at most once.
  struct Member {
    std::string more;  // with what leads to the next one
    std::string last;
    bool required = false;
    std::string bound = {};  // in place of `more` while a required one is missing; empty: the same
  };
  // Without members, or where none has to be there, nothing matches too.
  std::string AnyOrder(const std::vector<Member>& members);

  // The whole grammar.
  std::string Text(const std::string& start) const;

 private:
  std::string Name(const char* prefix) { return prefix + std::to_string(count_++); }

  const Compiler& compiler_;
  std::string rules_;
  int count_ = 0;
};

// `a | b | c` in brackets.
std::string Either(const std::vector<std::string>& expressions);

}  // namespace mach::grammar
