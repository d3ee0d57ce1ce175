#include "grammar/pattern.h"

#include <cctype>
#include <cstdint>
#include <cstdio>
#include <optional>

#include "base/error.h"

namespace mach::grammar {
namespace {

// Inside brackets. ECMA's white space is not Unicode's, and its digits and words are ASCII.
constexpr std::string_view kSpace =
    "\\t-\\r \\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}"
    "\\x{FEFF}";
constexpr std::string_view kDigit = "0-9";
constexpr std::string_view kWord = "0-9A-Z_a-z";
constexpr std::string_view kNotLineEnd = "[^\\n\\r\\x{2028}\\x{2029}]";

class Translator {
 public:
  explicit Translator(std::string_view pattern) : pattern_(pattern) {}

  std::string Run() {
    while (at_ < pattern_.size()) {
      const char c = pattern_[at_];
      if (c == '\\') {
        Escape(false);
      } else if (c == '[') {
        Class();
      } else if (c == '(') {
        Group();
      } else if (c == '.') {
        ++at_;
        out_ += kNotLineEnd;
      } else if (c == '*' || c == '+' || c == '?') {
        ++at_;
        Quantifier(std::string(1, c));
      } else if (c == '{') {
        Braces();
      } else if (c == '}' || c == ']') {  // as themselves
        ++at_;
        out_ += '\\';
        out_ += c;
      } else {
        ++at_;
        out_ += c;
      }
    }
    return std::move(out_);
  }

 private:
  [[noreturn]] void Refuse(const std::string& what) const {
    throw Error(ErrorCode::kInvalidArgument,
                "the pattern " + std::string(pattern_) + " has " + what);
  }

  char Next() const { return at_ < pattern_.size() ? pattern_[at_] : '\0'; }

  void Group() {
    const std::string_view rest = pattern_.substr(at_);
    if (!rest.starts_with("(?")) {
      out_ += "(?:";
      ++at_;
      return;
    }
    if (rest.starts_with("(?=") || rest.starts_with("(?!") || rest.starts_with("(?<=") ||
        rest.starts_with("(?<!")) {
      Refuse("a look-around, which cannot be enforced");
    }
    size_t skip = 3;
    if (rest.starts_with("(?<")) {
      skip = rest.find('>');
      if (skip == std::string_view::npos) {
        Refuse("a group whose name does not end");
      }
      ++skip;
    } else if (!rest.starts_with("(?:")) {
      Refuse("a kind of group that is not known");
    }
    out_ += "(?:";
    at_ += skip;
  }

  // Greed makes no difference to what matches.
  void Quantifier(const std::string& quantifier) {
    out_ += quantifier;
    if (Next() == '?') {
      ++at_;
    }
  }

  // A quantifier if it reads as one, else the character.
  void Braces() {
    size_t end = at_ + 1;
    bool digits = false;
    while (end < pattern_.size() && (std::isdigit(static_cast<unsigned char>(pattern_[end])) != 0 ||
                                     (pattern_[end] == ',' && digits))) {
      digits = true;
      ++end;
    }
    if (!digits || end >= pattern_.size() || pattern_[end] != '}') {
      ++at_;
      out_ += "\\{";
      return;
    }
    const std::string quantifier(pattern_.substr(at_, end + 1 - at_));
    at_ = end + 1;
    Quantifier(quantifier);
  }

  void Class() {
    ++at_;
    const bool negated = Next() == '^';
    if (negated) {
      ++at_;
    }
    if (Next() == ']') {  // nothing, or anything
      ++at_;
      out_ += negated ? "(?s:.)" : "[^\\x{0}-\\x{10FFFF}]";
      return;
    }
    out_ += negated ? "[^" : "[";
    while (Next() != ']') {
      bool is_set = ClassMember();
      if (Next() != '-') {
        continue;
      }
      ++at_;
      out_ += is_set || Next() == ']' ? "\\-" : "-";
      if (!is_set && Next() != ']') {
        const size_t dash = out_.size() - 1;
        is_set = ClassMember();
        if (is_set) {  // then it was none between two characters
          out_.insert(dash, "\\");
        }
      }
    }
    ++at_;
    out_ += ']';
  }

  // One character inside brackets, or a set of them: then true.
  bool ClassMember() {
    if (at_ >= pattern_.size()) {
      Refuse("a bracket that is not closed");
    }
    const char c = pattern_[at_];
    if (c == '\\') {
      const char kind = at_ + 1 < pattern_.size() ? pattern_[at_ + 1] : '\0';
      Escape(true);
      return std::string_view("dDwWsSpP").find(kind) != std::string_view::npos;
    }
    ++at_;
    if (std::string_view("[&~^-").find(c) != std::string_view::npos) {
      out_ += '\\';
    }
    out_ += c;
    while (static_cast<unsigned char>(c) >= 0x80 &&
           (static_cast<unsigned char>(Next()) & 0xC0U) == 0x80) {  // the rest of it
      out_ += pattern_[at_++];
    }
    return false;
  }

  std::optional<uint32_t> Hex(size_t digits) {
    uint32_t value = 0;
    if (at_ + digits > pattern_.size()) {
      return std::nullopt;
    }
    for (size_t i = 0; i < digits; ++i) {
      const char c = pattern_[at_ + i];
      if (std::isxdigit(static_cast<unsigned char>(c)) == 0) {
        return std::nullopt;
      }
      value = 16 * value + static_cast<uint32_t>(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    at_ += digits;
    return value;
  }

  void Character(uint32_t code) {
    char text[16];
    std::snprintf(text, sizeof(text), "\\x{%X}", static_cast<unsigned>(code));
    out_ += text;
  }

  void Unicode() {
    if (Next() == '{') {
      const size_t end = pattern_.find('}', at_);
      const size_t digits = end == std::string_view::npos ? 0 : end - at_ - 1;
      ++at_;
      const auto code = digits >= 1 && digits <= 6 ? Hex(digits) : std::nullopt;
      if (!code) {
        Refuse("an escape \\u{ that is none");
      }
      ++at_;
      Character(*code);
      return;
    }
    auto code = Hex(4);
    if (code && *code >= 0xD800 && *code < 0xDC00 && pattern_.substr(at_).starts_with("\\u")) {
      at_ += 2;
      const auto low = Hex(4);
      if (low && *low >= 0xDC00 && *low < 0xE000) {
        code = 0x10000 + ((*code - 0xD800) << 10) + (*low - 0xDC00);
      }
    }
    if (!code || (*code >= 0xD800 && *code < 0xE000)) {
      Refuse("an escape \\u that is no character");
    }
    Character(*code);
  }

  // A class, or its complement, of characters given as they stand inside brackets.
  void Shorthand(std::string_view members, bool negated, bool in_class) {
    if (in_class && !negated) {
      out_ += members;
      return;
    }
    out_ += negated ? "[^" : "[";
    out_ += members;
    out_ += ']';
  }

  void Escape(bool in_class) {
    ++at_;
    if (at_ >= pattern_.size()) {
      Refuse("a backslash at its end");
    }
    const char c = pattern_[at_++];
    switch (c) {
      case 'd':
      case 'D':
        return Shorthand(kDigit, c == 'D', in_class);
      case 'w':
      case 'W':
        return Shorthand(kWord, c == 'W', in_class);
      case 's':
      case 'S':
        return Shorthand(kSpace, c == 'S', in_class);
      case 'p':
      case 'P':
        return Property(c);
      case 'n':
      case 'r':
      case 't':
      case 'f':
      case 'v':
        out_ += '\\';
        out_ += c;
        return;
      case 'u':
        return Unicode();
      case 'x':
        if (const auto code = Hex(2)) {
          return Character(*code);
        }
        Refuse("an escape \\x that is no character");
      case 'c':
        if (std::isalpha(static_cast<unsigned char>(Next())) == 0) {
          Refuse("an escape \\c that is no control character");
        }
        return Character(static_cast<uint32_t>(pattern_[at_++]) % 32);
      case '0':
        return Character(0);
      case 'b':
        if (in_class) {
          return Character(8);
        }
        [[fallthrough]];
      case 'B':
        Refuse("a word boundary, which cannot be enforced");
      case 'k':
        Refuse("a back reference, which cannot be enforced");
      default:
        break;
    }
    if (c >= '1' && c <= '9') {
      Refuse("a back reference, which cannot be enforced");
    }
    if (std::isalpha(static_cast<unsigned char>(c)) != 0) {
      Refuse(std::string("an escape \\") + c + " that ECMA 262 does not have");
    }
    if (static_cast<unsigned char>(c) < 0x80) {
      out_ += '\\';
    }
    out_ += c;
  }

  void Property(char c) {
    const size_t end = Next() == '{' ? pattern_.find('}', at_) : std::string_view::npos;
    if (end == std::string_view::npos) {
      Refuse("an escape \\p without a name");
    }
    out_ += '\\';
    out_ += c;
    out_ += pattern_.substr(at_, end + 1 - at_);
    at_ = end + 1;
  }

  const std::string_view pattern_;
  size_t at_ = 0;
  std::string out_;
};

}  // namespace

std::string TranslatePattern(std::string_view pattern) {
  return Translator(pattern).Run();
}

}  // namespace mach::grammar
