#include "text/pattern.h"

#include <random>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "text/known_patterns.h"
#include "text/unicode.h"

namespace mach::text {
namespace {

std::vector<std::string> Matches(const Pattern& pattern, std::string_view text) {
  std::vector<Piece> pieces;
  pattern.FindAll(text, &pieces);
  std::vector<std::string> out;
  for (const Piece& piece : pieces) {
    out.push_back((piece.is_match ? "+" : "-") +
                  std::string(text.substr(piece.begin, piece.end - piece.begin)));
  }
  return out;
}

std::string RandomText(std::mt19937* random) {
  constexpr std::string_view kPieces[] = {
      " ",          "  ",         "\n",     "\r\n",   "\t",     "a",  "bc",     "D",    "EF",
      "'",          "'s",         "'LL",    "'ſ",     "1",      "23", "٣",      "½",    "!",
      "/",          "-",          "\u0301", "é",      "Ж",      "中", "文",     "か",   "ǅ",
      "ʰ",          "ª",          "\u00a0", "\u3000", "\u180e", "👍",  "\u200d", "\x01", "$",
      "\U00010d50", "\U00031350", "\u0897", "_",      "\u0345"};
  std::string text;
  for (uint32_t i = 0; i < 1 + (*random)() % 12; ++i) {
    text += kPieces[(*random)() % std::size(kPieces)];
  }
  return text;
}

TEST(PatternTest, HandWrittenMatchersEqualTheirExpressions) {
  const uint32_t seed = 99;
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  for (const std::string_view expression : KnownExpressions()) {
    const auto fast = Pattern::Regex(expression, "test");
    const auto slow = Pattern::GeneralRegex(expression, "test");
    for (int round = 0; round < 4000; ++round) {
      const std::string text = RandomText(&random);
      ASSERT_EQ(Matches(*fast, text), Matches(*slow, text)) << expression << "\n" << text;
    }
  }
}

TEST(PatternTest, TranslatesOniguruma) {
  EXPECT_EQ(TranslateRegex("(a|b)+", "t"), "(?:a|b)+");
  EXPECT_EQ(TranslateRegex("a{2}+b", "t"), "(?:a{2})+b");
  EXPECT_EQ(TranslateRegex("a++b??", "t"), "a++b??");
  EXPECT_EQ(TranslateRegex("(?i:'s|re)", "t"), "(?i:'s|re)");
  const auto letters = Pattern::GeneralRegex("\\p{L}+", "t");
  EXPECT_THAT(Matches(*letters, "a\U00031350 \u1c89"),  // Unicode 15 and 16
              testing::ElementsAre("+a\U00031350", "- ", "+\u1c89"));
  EXPECT_THAT(Matches(*Pattern::GeneralRegex("\\s", "t"), "\u180e"),
              testing::ElementsAre("-\u180e"));
  EXPECT_THAT(Matches(*Pattern::GeneralRegex("", "t"), "ab"),
              testing::ElementsAre("+", "-a", "+", "-b", "+"));
}

TEST(PatternTest, RefusesWhatItDoesNotKnow) {
  for (const char* expression :
       {"[a&&b]", "\\w+", "\\h", "(?<name>a)", "(?i:strasse)", "\\p{Greek}", "(?m:a)", "\\1"}) {
    try {
      Pattern::Regex(expression, "t");
      ADD_FAILURE() << expression;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUnsupported) << expression;
    }
  }
  for (const char* expression : {"(a", "a)", "[a", "\\", "*a", "\\p{L"}) {
    try {
      Pattern::Regex(expression, "t");
      ADD_FAILURE() << expression;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kCorruptFile) << expression;
    }
  }
}

TEST(PatternTest, RunawayExpressionsEnd) {
  const auto pattern = Pattern::Regex("(?:a+)+[bc]", "t");
  std::vector<Piece> pieces;
  EXPECT_THROW(pattern->FindAll(std::string(5000, 'a'), &pieces), Error);
}

}  // namespace
}  // namespace mach::text
