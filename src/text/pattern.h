// What a Split or Replace looks for: a literal, or a regular expression in the dialect that
// `tokenizers` uses (Oniguruma's Ruby syntax, Unicode 16). Well known pre-splitting expressions run
// as hand-written matchers (known_patterns.h), the rest through PCRE2. Immutable: any thread may
// search.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace mach::text {

// A part of the searched text, in bytes.
struct Piece {
  uint32_t begin;
  uint32_t end;
  bool is_match;
};

class Pattern {
 public:
  static std::unique_ptr<Pattern> Literal(std::string_view text);
  // Throws kUnsupported for constructs that are not known to mean the same in both dialects,
  // kCorruptFile for what is no regular expression. `where` names the field for messages.
  static std::unique_ptr<Pattern> Regex(std::string_view expression, std::string_view where);
  // Regex without the hand-written matchers: what tests compare those with.
  static std::unique_ptr<Pattern> GeneralRegex(std::string_view expression, std::string_view where);

  Pattern() = default;
  Pattern(const Pattern&) = delete;
  Pattern& operator=(const Pattern&) = delete;
  virtual ~Pattern() = default;

  // Appends pieces that cover `text` from left to right: matches, which do not overlap, and what is
  // between them. `text` is valid UTF-8 and shorter than 2 GiB. Throws kResourceLimit if an
  // expression runs away.
  virtual void FindAll(std::string_view text, std::vector<Piece>* pieces) const = 0;
};

// Rewrites an expression from Oniguruma's dialect for PCRE2 with UTF, UCP and MULTILINE. Throws as
// Pattern::Regex does.
std::string TranslateRegex(std::string_view expression, std::string_view where);

}  // namespace mach::text
