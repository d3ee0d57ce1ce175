#include "grammar/text_until.h"

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/grammar/grammar_support.h"

namespace mach::grammar {
namespace {

// Text up to `</p>` and `<q=` with any line feeds between them; no `<q>` before that.
class TextUntilTest : public testing::Test {
 protected:
  TextUntilTest() {
    LarkText lark(ByteCompiler());
    MarkerSteps close = Spelled("</p>");
    close.push_back({.character = "\\n", .any_number = true});
    for (const MarkerStep& step : Spelled("<q=")) {
      close.push_back(step);
    }
    const TextUntil text(lark, {close, Spelled("<q>")});
    grammar_ = ByteCompiler().Compile(Spec::Lark(lark.Text(text.text() + " " + text.Marker(0))));
  }

  // What the grammar is to say: the first marker there is ends the text, and is the right one.
  static bool IsRight(const std::string& text) {
    size_t first = std::string::npos;
    size_t end = 0;
    for (const char* marker : {"</p><q=", "</p>\n<q=", "</p>\n\n<q=", "</p>\n\n\n<q=", "<q>"}) {
      const size_t at = text.find(marker);
      if (at != std::string::npos &&
          at + std::string(marker).size() <= std::min(first, text.size())) {
        first = at + std::string(marker).size();
        end = marker == std::string("<q>") ? 0 : first;
      }
    }
    return end == text.size() && end > 0;
  }

  std::shared_ptr<const Grammar> grammar_;
};

TEST_F(TextUntilTest, EndsAtTheFirstMarker) {
  EXPECT_TRUE(Allows(*grammar_, "</p><q="));
  EXPECT_TRUE(Allows(*grammar_, "a < b, </p> and\n</p>\n</p>\n<q="));
  EXPECT_TRUE(Allows(*grammar_, "<<</p></p><</p>\n\n<q ｜ <q</p>\n<q="));
  EXPECT_FALSE(Allows(*grammar_, "a"));
  EXPECT_FALSE(Allows(*grammar_, "a</p>\n"));
  EXPECT_FALSE(Allows(*grammar_, "a <q>b</p><q="));
  EXPECT_FALSE(Allows(*grammar_, "a</p><q=b</p><q="));
}

TEST_F(TextUntilTest, IsExact) {
  const std::vector<std::string> parts = {"</p>", "<q=", "<q>", "\n", "<", "/", "a", "ü", "</p"};
  std::mt19937 random(7);
  int right = 0;
  for (int i = 0; i < 3'000; ++i) {
    std::string text;
    const size_t count = 1 + random() % 6;
    for (size_t part = 0; part < count; ++part) {
      text += parts[random() % parts.size()];
    }
    text += random() % 2 == 0 ? "</p><q=" : "</p>\n<q=";
    ASSERT_EQ(Allows(*grammar_, text), IsRight(text)) << "of seed 7: " << text;
    right += IsRight(text) ? 1 : 0;
  }
  EXPECT_GT(right, 1'000);
  EXPECT_LT(right, 3'000);
}

// The time of a long text grows with its length only.
TEST_F(TextUntilTest, LongTextsStayWithinTheLimits) {
  std::string text;
  for (int line = 0; line < 5'000; ++line) {
    text += "if (a < b) {\n";
  }
  EXPECT_TRUE(Allows(*grammar_, text + "</p><q="));
}

}  // namespace
}  // namespace mach::grammar
