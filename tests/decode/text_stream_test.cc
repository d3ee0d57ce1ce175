#include "decode/text_stream.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/word_tokenizer.h"

namespace mach::decode {
namespace {

using testing_support::WordTokenizer;

struct Shown {
  std::string text;
  std::string stop;
};

Shown Stream(const std::vector<std::string>& pieces, const std::vector<std::string>& stops,
             bool include = false) {
  const WordTokenizer tokenizer(pieces);
  TextStream stream(tokenizer, false, stops, include);
  Shown shown;
  for (size_t i = 0; i < pieces.size() && !stream.stop(); ++i) {
    shown.text += stream.Push(static_cast<int32_t>(i), true);
  }
  if (!stream.stop()) {
    shown.text += stream.Finish();
  }
  shown.stop = stream.stop().value_or("");
  return shown;
}

TEST(TextStream, CutsAtAStopStringHoweverItIsSplit) {
  const std::string text = "one two STOP three";
  for (size_t width = 1; width <= text.size(); ++width) {
    std::vector<std::string> pieces;
    for (size_t at = 0; at < text.size(); at += width) {
      pieces.push_back(text.substr(at, width));
    }
    const Shown cut = Stream(pieces, {"STOP"});
    EXPECT_EQ(cut.text, "one two ") << width;
    EXPECT_EQ(cut.stop, "STOP");
    EXPECT_EQ(Stream(pieces, {"STOP"}, true).text, "one two STOP");
    EXPECT_EQ(Stream(pieces, {"never"}).text, text);
  }
}

TEST(TextStream, FirstMatchWinsAndFalseStartsAreReleased) {
  EXPECT_EQ(Stream({"ab", "ab", "ac"}, {"abac", "zz"}).text, "ab");
  EXPECT_EQ(Stream({"aab"}, {"b", "aa"}).text, "");
  EXPECT_EQ(Stream({"x<", "/y"}, {"</x>"}).text, "x</y");
  EXPECT_EQ(Stream({"x</"}, {"</x>"}).text, "x</");  // released at the end
}

TEST(TextStream, HoldsBackOnlyAPossibleStart) {
  const WordTokenizer tokenizer({"hello wor", "ld", "!"});
  TextStream stream(tokenizer, false, {"world peace"}, false);
  EXPECT_EQ(stream.Push(0, true), "hello ");
  EXPECT_EQ(stream.Push(1, true), "");
  EXPECT_EQ(stream.Push(2, true), "world!");
}

TEST(TextStream, MinTokensLetsStopsPass) {
  const WordTokenizer tokenizer({"STOP", "a", "STOP"});
  TextStream stream(tokenizer, false, {"STOP"}, false);
  EXPECT_EQ(stream.Push(0, false), "STOP");
  EXPECT_EQ(stream.Push(1, true), "a");
  EXPECT_EQ(stream.Push(2, true), "");
  EXPECT_EQ(stream.stop(), "STOP");
}

}  // namespace
}  // namespace mach::decode
