#include "text/known_patterns.h"

#include <array>

namespace mach::text {

// clang-format off
namespace {

constexpr std::string_view kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen35 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kO200k =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kNumbersOfThree = R"(\p{N}{1,3})";
constexpr std::string_view kDeepSeekHan = "[一-龥぀-ゟ゠-ヿ]+";
constexpr std::string_view kDeepSeekWords =
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+";
// clang-format on

bool IsNewline(char c) {
  return c == '\r' || c == '\n';
}
bool IsAsciiLetter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// End of the run of characters from `at` whose info satisfies `accept`.
template <typename Accept>
const char* RunEnd(const char* at, const char* end, const UnicodeTable& table, Accept accept) {
  while (at < end) {
    const DecodedChar c = DecodeAt(at);
    if (!accept(table[c.code])) {
      break;
    }
    at += c.size;
  }
  return at;
}

template <uint32_t kCategories>
const char* RunOf(const char* at, const char* end, const UnicodeTable& table) {
  return RunEnd(at, end, table, [](CharInfo info) { return info.In(kCategories); });
}

// [^\s...]+ without the given categories.
template <uint32_t kCategories>
const char* RunOfOthers(const char* at, const char* end, const UnicodeTable& table) {
  return RunEnd(at, end, table,
                [](CharInfo info) { return !info.IsSpace() && !info.In(kCategories); });
}

const char* NewlinesEnd(const char* at, const char* end) {
  while (at < end && IsNewline(*at)) {
    ++at;
  }
  return at;
}

// \p{N}{1,max}
const char* Numbers(const char* at, const char* end, const UnicodeTable& table, int max) {
  for (int i = 0; i < max && at < end; ++i) {
    const DecodedChar c = DecodeAt(at);
    if (!table[c.code].In(kNumbers)) {
      break;
    }
    at += c.size;
  }
  return at;
}

// 's|'t|'re|'ve|'m|'ll|'d, with (?i:...) if kAnyCase. Then U+017F, the long s, is an s too.
template <bool kAnyCase>
const char* Contraction(const char* at, const char* end) {
  if (at == end || *at != '\'') {
    return at;
  }
  const auto letter = [&](int index) -> char {
    if (end - at <= index) {
      return '\0';
    }
    const char c = at[index];
    return kAnyCase && c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  };
  switch (letter(1)) {
    case 's':
    case 't':
    case 'm':
    case 'd':
      return at + 2;
    case 'r':
    case 'v':
      return letter(2) == 'e' ? at + 3 : at;
    case 'l':
      return letter(2) == 'l' ? at + 3 : at;
    case '\xC5':
      return kAnyCase && letter(2) == '\xBF' ? at + 3 : at;
    default:
      return at;
  }
}

// \s*[\r\n]+|\s+(?!\S)|\s+, or without the first alternative.
template <bool kNewlinesFirst>
const char* Spaces(const char* at, const char* end, const UnicodeTable& table) {
  const char* last = at;         // begin of the last space
  const char* newline_end = at;  // behind the last line break
  const char* stop = at;
  while (stop < end) {
    const DecodedChar c = DecodeAt(stop);
    if (!table[c.code].IsSpace()) {
      break;
    }
    last = stop;
    stop += c.size;
    if (kNewlinesFirst && IsNewline(*last)) {
      newline_end = stop;
    }
  }
  if (kNewlinesFirst && newline_end > at) {
    return newline_end;
  }
  // A space before a word stays with the word, unless it is the only one.
  return stop == end || last == at ? stop : last;
}

const char* MatchGpt2(const char* at, const char* end, const UnicodeTable& table) {
  const char* stop = Contraction<false>(at, end);
  if (stop > at) {
    return stop;
  }
  const char* word = *at == ' ' ? at + 1 : at;
  if (word < end) {
    const CharInfo info = table[DecodeAt(word).code];
    if (info.In(kLetters)) {
      return RunOf<kLetters>(word, end, table);
    }
    if (info.In(kNumbers)) {
      return RunOf<kNumbers>(word, end, table);
    }
    if (!info.IsSpace()) {
      return RunOfOthers<kLetters | kNumbers>(word, end, table);
    }
  }
  return Spaces<false>(at, end, table);
}

// The family of cl100k. kWordChars is what words are made of: letters, or letters and marks.
template <uint32_t kWordChars, int kDigits>
const char* MatchCl100k(const char* at, const char* end, const UnicodeTable& table) {
  const char* stop = Contraction<true>(at, end);
  if (stop > at) {
    return stop;
  }
  const DecodedChar first = DecodeAt(at);
  const CharInfo info = table[first.code];
  if (info.In(kLetters)) {
    return RunOf<kWordChars>(at, end, table);
  }
  if (info.In(kNumbers)) {
    return Numbers(at, end, table, kDigits);
  }
  if (!IsNewline(*at)) {
    const char* word = at + first.size;
    stop = RunOf<kWordChars>(word, end, table);
    if (stop > word) {
      return stop;
    }
    if (info.In(kWordChars)) {
      return word;
    }
  }
  const char* others = *at == ' ' ? at + 1 : at;
  stop = RunOfOthers<kWordChars | kNumbers>(others, end, table);
  if (stop > others) {
    return NewlinesEnd(stop, end);
  }
  return Spaces<true>(at, end, table);
}

constexpr uint32_t kO200kUpper = kUpperLetters | kOtherLetters | kMarks;
constexpr uint32_t kO200kLower = kLowerLetters | kOtherLetters | kMarks;

// [U]*[L]+ where U and L share characters: null if it does not match.
const char* O200kLowerWord(const char* at, const char* end, const UnicodeTable& table) {
  const char* shared_end = nullptr;  // behind the last character of the run of U that is in L too
  const char* stop = at;
  while (stop < end) {
    const DecodedChar c = DecodeAt(stop);
    const CharInfo info = table[c.code];
    if (!info.In(kO200kUpper)) {
      break;
    }
    stop += c.size;
    if (info.In(kO200kLower)) {
      shared_end = stop;
    }
  }
  const char* lower_end = RunOf<kO200kLower>(stop, end, table);
  return lower_end > stop ? lower_end : shared_end;
}

const char* MatchO200k(const char* at, const char* end, const UnicodeTable& table) {
  const DecodedChar first = DecodeAt(at);
  const CharInfo info = table[first.code];
  if (info.In(kNumbers)) {
    return Numbers(at, end, table, 3);
  }
  if (!IsNewline(*at)) {
    const char* word = info.In(kLetters) ? at : at + first.size;
    const char* stop = O200kLowerWord(word, end, table);
    if (stop == nullptr && word > at && info.In(kMarks)) {
      stop = word;  // the optional first character given back: a mark is a word by itself
    }
    if (stop == nullptr) {
      stop = RunOf<kO200kUpper>(word, end, table);
      stop = stop > word ? stop : nullptr;
    }
    if (stop != nullptr) {
      return Contraction<true>(stop, end);
    }
  }
  const char* others = *at == ' ' ? at + 1 : at;
  const char* stop = RunOfOthers<kLetters | kNumbers>(others, end, table);
  if (stop > others) {
    while (stop < end && (IsNewline(*stop) || *stop == '/')) {
      ++stop;
    }
    return stop;
  }
  return Spaces<true>(at, end, table);
}

const char* MatchNumbersOfThree(const char* at, const char* end, const UnicodeTable& table) {
  return Numbers(at, end, table, 3);
}

const char* MatchDeepSeekHan(const char* at, const char* end, const UnicodeTable& /*table*/) {
  while (at < end) {
    const DecodedChar c = DecodeAt(at);
    const bool inside =
        (c.code >= 0x4E00 && c.code <= 0x9FA5) || (c.code >= 0x3040 && c.code <= 0x30FF);
    if (!inside) {
      break;
    }
    at += c.size;
  }
  return at;
}

const char* MatchDeepSeekWords(const char* at, const char* end, const UnicodeTable& table) {
  const DecodedChar first = DecodeAt(at);
  const CharInfo info = table[first.code];
  const bool ascii_punctuation =
      first.code < 0x80 && info.In(kPunctuation | kSymbols);  // all 32 of them are in the class
  if (ascii_punctuation && at + 1 < end && IsAsciiLetter(at[1])) {
    const char* stop = at + 1;
    while (stop < end && IsAsciiLetter(*stop)) {
      ++stop;
    }
    return stop;
  }
  if (info.In(kLetters)) {
    return RunOf<kLetters | kMarks>(at, end, table);
  }
  if (!IsNewline(*at) && !info.In(kPunctuation | kSymbols)) {
    const char* word = at + first.size;
    const char* stop = RunOf<kLetters | kMarks>(word, end, table);
    if (stop > word) {
      return stop;
    }
    if (info.In(kMarks)) {
      return word;
    }
  }
  const char* others = *at == ' ' ? at + 1 : at;
  const char* stop = RunOf<kPunctuation | kSymbols>(others, end, table);
  if (stop > others) {
    return NewlinesEnd(stop, end);
  }
  return info.IsSpace() ? Spaces<true>(at, end, table) : at;
}

struct Known {
  std::string_view expression;
  KnownMatcher matcher;
};

constexpr size_t kKnownCount = 8;

const std::array<Known, kKnownCount>& AllKnown() {
  static const std::array<Known, kKnownCount> kKnown = {{
      {kGpt2Expression, MatchGpt2},
      {kLlama3, MatchCl100k<kLetters, 3>},
      {kQwen2, MatchCl100k<kLetters, 1>},
      {kQwen35, MatchCl100k<kLetters | kMarks, 1>},
      {kO200k, MatchO200k},
      {kNumbersOfThree, MatchNumbersOfThree},
      {kDeepSeekHan, MatchDeepSeekHan},
      {kDeepSeekWords, MatchDeepSeekWords},
  }};
  return kKnown;
}

}  // namespace

KnownMatcher FindKnownMatcher(std::string_view expression) {
  for (const Known& known : AllKnown()) {
    if (known.expression == expression) {
      return known.matcher;
    }
  }
  return nullptr;
}

std::span<const std::string_view> KnownExpressions() {
  static const std::array<std::string_view, kKnownCount> kExpressions = [] {
    std::array<std::string_view, kKnownCount> result;
    for (size_t i = 0; i < kKnownCount; ++i) {
      result[i] = AllKnown()[i].expression;
    }
    return result;
  }();
  return kExpressions;
}

}  // namespace mach::text
