// Oniguruma's Ruby syntax (https://github.com/kkos/oniguruma/blob/master/doc/RE) to PCRE2's
// (pcre2pattern(3)). What is not known to mean the same in both is refused.
#include <cctype>
#include <cstdio>

#include "base/error.h"
#include "text/pattern.h"
#include "text/unicode.h"

namespace mach::text {

namespace {

// Inside brackets: \x{1}-\x{2}... of the code points that satisfy `accept`.
template <typename Accept>
std::string Ranges(Accept accept) {
  const UnicodeTable& table = UnicodeTable::Get();
  std::string out;
  for (char32_t c = 0; c < 0x110000; ++c) {
    if ((c >= 0xD800 && c < 0xE000) || !accept(table[c])) {
      continue;
    }
    const char32_t first = c;
    while (c + 1 < 0x110000 && c + 1 != 0xD800 && accept(table[c + 1])) {
      ++c;
    }
    char text[40];
    std::snprintf(text, sizeof(text), "\\x{%x}-\\x{%x}", static_cast<unsigned>(first),
                  static_cast<unsigned>(c));
    out += text;
  }
  return out;
}

struct Property {
  std::string_view name;
  uint32_t categories;
};

constexpr Property kProperties[] = {
    {"L", kLetters},
    {"Letter", kLetters},
    {"M", kMarks},
    {"Mark", kMarks},
    {"N", kNumbers},
    {"Number", kNumbers},
    {"P", kPunctuation},
    {"Punctuation", kPunctuation},
    {"S", kSymbols},
    {"Symbol", kSymbols},
    {"Lu", CategoryBit(Category::kLu)},
    {"Ll", CategoryBit(Category::kLl)},
    {"Lt", CategoryBit(Category::kLt)},
    {"Lm", CategoryBit(Category::kLm)},
    {"Lo", CategoryBit(Category::kLo)},
    {"Mn", CategoryBit(Category::kMn)},
    {"Mc", CategoryBit(Category::kMc)},
    {"Me", CategoryBit(Category::kMe)},
    {"Nd", CategoryBit(Category::kNd)},
    {"Nl", CategoryBit(Category::kNl)},
    {"No", CategoryBit(Category::kNo)},
    {"Pc", CategoryBit(Category::kPc)},
    {"Pd", CategoryBit(Category::kPd)},
    {"Ps", CategoryBit(Category::kPs)},
    {"Pe", CategoryBit(Category::kPe)},
    {"Po", CategoryBit(Category::kPo)},
    {"Sm", CategoryBit(Category::kSm)},
    {"Sc", CategoryBit(Category::kSc)},
    {"Sk", CategoryBit(Category::kSk)},
    {"So", CategoryBit(Category::kSo)},
};

class Translator {
 public:
  Translator(std::string_view in, std::string_view where) : in_(in), where_(where) {}

  std::string Run() {
    while (at_ < in_.size()) {
      Atom();
    }
    return out_;
  }

 private:
  [[noreturn]] void Refuse(std::string_view what) const {
    throw Error(ErrorCode::kUnsupported, std::string(where_) + ": " + std::string(what) +
                                             " in the regular expression \"" + std::string(in_) +
                                             "\"");
  }

  [[noreturn]] void Corrupt(std::string_view what) const {
    throw Error(ErrorCode::kCorruptFile, std::string(where_) + ": " + std::string(what) +
                                             " in the regular expression \"" + std::string(in_) +
                                             "\"");
  }

  char Next() const { return at_ < in_.size() ? in_[at_] : '\0'; }

  void Atom() {
    const char c = in_[at_];
    if (c == '(') {
      Group();
    } else if (c == ')') {
      if (groups_.empty()) {
        Corrupt("a ')' too many");
      }
      atom_ = groups_.back();
      groups_.pop_back();
      out_ += c;
      ++at_;
    } else if (c == '[') {
      atom_ = out_.size();
      Class(0);
    } else if (c == '\\') {
      atom_ = out_.size();
      Escape(false);
    } else if (c == '*' || c == '+' || c == '?' || c == '{') {
      Quantifier();
    } else {
      // '.', '^', '$' and '|' mean the same with PCRE2_MULTILINE; everything else is literal.
      atom_ = out_.size();
      const size_t size = DecodeAt(in_.data() + at_).size;
      out_ += in_.substr(at_, size);
      at_ += size;
    }
  }

  void Group() {
    groups_.push_back(out_.size());
    if (in_.substr(at_, 2) != "(?") {
      out_ += "(?:";  // nobody reads what groups capture
      ++at_;
      return;
    }
    for (const std::string_view opener : {"(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!"}) {
      if (in_.substr(at_, opener.size()) == opener) {
        out_ += opener;
        at_ += opener.size();
        return;
      }
    }
    if (in_.substr(at_, 4) == "(?i:") {
      CaselessGroup();
      return;
    }
    Refuse("a group of an unknown kind");
  }

  // Only plain ASCII words: in Oniguruma "ss" would match a sharp s, "fi" a ligature, and so on.
  void CaselessGroup() {
    const size_t close = in_.find(')', at_);
    if (close == std::string_view::npos) {
      Corrupt("a group without its ')'");
    }
    std::string words;
    for (const char c : in_.substr(at_ + 4, close - at_ - 4)) {
      if (std::isalpha(static_cast<unsigned char>(c)) == 0 && c != '\'' && c != '|') {
        Refuse("a (?i:...) of more than plain words");
      }
      words += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    }
    for (const char* folded : {"ss", "st", "ff", "fi", "fl"}) {
      if (words.find(folded) != std::string::npos) {
        Refuse(std::string("\"") + folded + "\" in a (?i:...)");
      }
    }
    out_ += in_.substr(at_, close - at_);
    at_ = close;
  }

  void Quantifier() {
    std::string_view interval;
    if (Next() == '{') {
      size_t stop = at_ + 1;
      while (stop < in_.size() &&
             (std::isdigit(static_cast<unsigned char>(in_[stop])) != 0 || in_[stop] == ',')) {
        ++stop;
      }
      interval = in_.substr(at_, stop + 1 - at_);
      if (stop >= in_.size() || in_[stop] != '}' || interval.size() < 3 || interval[1] == ',') {
        Refuse("a '{' that is no {n}, {n,} or {n,m}");
      }
      at_ = stop + 1;
      out_ += interval;
    } else {
      out_ += in_[at_++];
    }
    const char mode = Next();
    const bool lazy =
        mode == '?' && (interval.empty() || interval.find(',') != std::string_view::npos);
    const bool possessive = mode == '+' && interval.empty();
    if (lazy || possessive) {
      out_ += mode;
      ++at_;
    } else if (mode == '?' || mode == '+' || mode == '*') {
      // In Ruby's syntax {n,m}+ is not possessive but a repetition of the repetition.
      out_.insert(atom_, "(?:");
      out_ += ")";
    }
  }

  void Escape(bool in_class) {
    if (at_ + 1 >= in_.size()) {
      Corrupt("a '\\' at the end");
    }
    const char c = in_[at_ + 1];
    switch (c) {
      case 'p':
      case 'P':
        PropertyEscape(in_class);
        return;
      case 's':
      case 'S':
        // PCRE2's \\s has U+180E, which Unicode no longer counts among the spaces.
        SpaceEscape(c == 'S', in_class);
        return;
      case 'n':
      case 'r':
      case 't':
      case 'f':
      case 'a':
      case 'e':
        out_ += '\\';
        out_ += c;
        at_ += 2;
        return;
      case 'v':
        out_ += "\\x{b}";
        at_ += 2;
        return;
      case 'd':
        AppendSet("\\p{Nd}" + RangesUnknownToPcre2(CategoryBit(Category::kNd)), false, in_class);
        at_ += 2;
        return;
      case 'x':
        HexEscape();
        return;
      default:
        break;
    }
    if (std::isalnum(static_cast<unsigned char>(c)) != 0 || static_cast<unsigned char>(c) >= 0x80) {
      Refuse("\\" + std::string(1, c));
    }
    out_ += '\\';
    out_ += c;
    at_ += 2;
  }

  void SpaceEscape(bool negated, bool in_class) {
    at_ += 2;
    const bool explicit_negation = negated && in_class;
    AppendSet(Ranges([&](CharInfo info) { return info.IsSpace() != explicit_negation; }), negated,
              in_class);
  }

  void HexEscape() {
    at_ += 2;
    const bool braces = Next() == '{';
    at_ += braces ? 1 : 0;
    std::string digits;
    while (std::isxdigit(static_cast<unsigned char>(Next())) != 0 &&
           (braces || digits.size() < 2)) {
      digits += in_[at_++];
    }
    if (digits.empty() || digits.size() > 6 || (braces && Next() != '}')) {
      Corrupt("a broken \\x");
    }
    if (!braces && digits >= "80") {
      Refuse("a byte as \\x");  // Oniguruma means the byte, PCRE2 the character
    }
    at_ += braces ? 1 : 0;
    out_ += "\\x{" + digits + "}";
  }

  // What PCRE2's Unicode tables (14 in Debian 12) lack of these categories.
  static std::string RangesUnknownToPcre2(uint32_t categories) {
    return Ranges([&](CharInfo info) { return info.IsInert() && info.In(categories); });
  }

  void AppendSet(const std::string& members, bool negated, bool in_class) {
    if (in_class) {
      out_ += members;
    } else {
      out_ += (negated ? "[^" : "[") + members + "]";
    }
  }

  void PropertyEscape(bool in_class) {
    bool negated = in_[at_ + 1] == 'P';
    at_ += 2;
    std::string_view name;
    if (Next() == '{') {
      const size_t close = in_.find('}', at_);
      if (close == std::string_view::npos) {
        Corrupt("an unfinished \\p");
      }
      name = in_.substr(at_ + 1, close - at_ - 1);
      at_ = close + 1;
      if (!name.empty() && name[0] == '^') {
        negated = !negated;
        name.remove_prefix(1);
      }
    } else {
      Refuse("\\p without braces");
    }
    if (name == "Han") {
      const bool explicit_negation = negated && in_class;
      AppendSet(Ranges([&](CharInfo info) { return info.IsHan() != explicit_negation; }), negated,
                in_class);
      return;
    }
    for (const Property& property : kProperties) {
      if (name == property.name) {
        if (negated && in_class) {
          out_ += Ranges([&](CharInfo info) { return !info.In(property.categories); });
        } else {
          // PCRE2's own test is fast; only what it does not know is listed.
          std::string short_name(name.size() > 2 ? name.substr(0, 1) : name);
          AppendSet("\\p{" + short_name + "}" + RangesUnknownToPcre2(property.categories), negated,
                    in_class);
        }
        return;
      }
    }
    Refuse("\\p{" + std::string(name) + "}");
  }

  void Class(int depth) {
    if (depth > 0) {
      Refuse("a class within a class");
    }
    out_ += '[';
    ++at_;
    if (Next() == '^') {
      out_ += '^';
      ++at_;
    }
    if (Next() == ']') {
      Refuse("a class that begins with ']'");
    }
    while (at_ < in_.size() && in_[at_] != ']') {
      if (in_.substr(at_, 2) == "&&") {
        Refuse("an intersection of classes");
      }
      if (in_[at_] == '[') {
        Class(depth + 1);
      } else if (in_[at_] == '\\') {
        Escape(true);
      } else {
        const size_t size = DecodeAt(in_.data() + at_).size;
        out_ += in_.substr(at_, size);
        at_ += size;
      }
    }
    if (at_ >= in_.size()) {
      Corrupt("a class without its ']'");
    }
    out_ += ']';
    ++at_;
  }

  std::string_view in_;
  std::string_view where_;
  size_t at_ = 0;
  std::string out_;
  size_t atom_ = 0;  // where the last atom begins in out_
  std::vector<size_t> groups_;
};

}  // namespace

std::string TranslateRegex(std::string_view expression, std::string_view where) {
  return Translator(expression, where).Run();
}

}  // namespace mach::text
