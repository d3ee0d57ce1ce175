#include "grammar/pattern.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/grammar/grammar_support.h"

namespace mach::grammar {
namespace {

bool Matches(const std::string& pattern, const std::string& text) {
  return Allows(nlohmann::ordered_json{{"type", "string"}, {"pattern", pattern}},
                nlohmann::json(text).dump());
}

TEST(Pattern, MeansWhatItMeansInJavaScript) {
  EXPECT_TRUE(Matches("a.c", "xxabcxx")) << "unanchored";
  EXPECT_FALSE(Matches("^a.c$", "xabc"));
  EXPECT_TRUE(Matches("^a|b$", "ax"));
  EXPECT_TRUE(Matches("^a|b$", "xb"));
  EXPECT_FALSE(Matches("^a|b$", "xx"));
  EXPECT_FALSE(Matches("^.$", "\r")) << "a dot is no line end";
  EXPECT_FALSE(Matches("^.$", "\xE2\x80\xA8"));
  EXPECT_TRUE(Matches("^.$", "\xF0\x9F\x98\x80"));
  EXPECT_TRUE(Matches("^\\d$", "7"));
  EXPECT_FALSE(Matches("^\\d$", "\xD9\xA3")) << "digits are ASCII";
  EXPECT_FALSE(Matches("^\\w$", "\xC3\xA9"));
  EXPECT_TRUE(Matches("^\\W$", "\xC3\xA9"));
  EXPECT_TRUE(Matches("^\\s$", "\xC2\xA0"));
  EXPECT_FALSE(Matches("^\\S$", "\xC2\xA0"));
  EXPECT_TRUE(Matches("^[\\w-]+$", "a-b_9"));
  EXPECT_TRUE(Matches("^[^\\s]+$", "ab"));
  EXPECT_FALSE(Matches("^[^\\s]+$", "a b"));
  EXPECT_TRUE(Matches("^[[]&&x]$", "[&&x]")) << "brackets and && are nothing special in a class";
  EXPECT_TRUE(Matches("^[a-c&&b]$", "&"));
  EXPECT_TRUE(Matches("^[\\]\\-a]+$", "]-a"));
  EXPECT_TRUE(Matches("^[\\w-.]+$", "a-.b")) << "a dash beside a set is a dash";
  EXPECT_FALSE(Matches("^[\\w-.]+$", "a/b"));
  EXPECT_TRUE(Matches("^[+--]+$", "+,-"));
  EXPECT_FALSE(Matches("^[+--]+$", "."));
  EXPECT_TRUE(Matches("^[-a]+[a-]+$", "-aa-"));
  EXPECT_TRUE(Matches("^[.-\\d]+$", ".-7"));
  EXPECT_TRUE(Matches("^[\xC3\xA0-\xC3\xBF]+$", "\xC3\xA9"));
  EXPECT_TRUE(Matches("^{x}$", "{x}"));
  EXPECT_TRUE(Matches("^a{2,3}?$", "aaa"));
  EXPECT_FALSE(Matches("^a{2,3}?$", "aaaa"));
  EXPECT_TRUE(Matches("^\\u00e9\\x41\\cI$", "\xC3\xA9\x41\t"));
  EXPECT_TRUE(Matches("^\\ud83d\\ude00$", "\xF0\x9F\x98\x80"));
  EXPECT_TRUE(Matches("^\\p{Lu}$", "\xC3\x89"));
  EXPECT_TRUE(Matches("^(?<year>[0-9]{4})\\/(?:a|b)$", "2024/a"));
  EXPECT_TRUE(Matches("^[^]$", "x"));
}

TEST(Pattern, WhatIsNotRegularIsNamed) {
  const auto refused = [](const char* pattern, const char* what) {
    try {
      TranslatePattern(pattern);
      ADD_FAILURE() << pattern;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      EXPECT_THAT(error.what(), testing::HasSubstr(what)) << pattern;
    }
  };
  refused("^(?!a)", "look-around");
  refused("(?<=a)b", "look-around");
  refused("\\bword", "word boundary");
  refused("(a)\\1", "back reference");
  refused("[a", "not closed");
  refused("\\", "backslash");
  refused("(?i)a", "group");
  refused("\\y", "escape \\y");
}

}  // namespace
}  // namespace mach::grammar
