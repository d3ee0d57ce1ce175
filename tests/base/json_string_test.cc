#include "base/json_string.h"

#include <cstdint>
#include <random>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace mach {
namespace {

std::string Quoted(std::string_view text) {
  std::string out;
  AppendJsonString(out, text);
  return out;
}

TEST(AppendJsonString, EscapesWhatJsonDemandsAndKeepsUtf8) {
  EXPECT_EQ(Quoted("a\"b\\c\n\t\r\b\f"), R"("a\"b\\c\n\t\r\b\f")");
  EXPECT_EQ(Quoted(std::string_view("\0\x1f", 2)), R"("\u0000\u001f")");
  EXPECT_EQ(Quoted("Gr\xC3\xBC\xC3\x9F \xE4\xBD\xA0 \xF0\x9F\x98\x80"),
            "\"Gr\xC3\xBC\xC3\x9F \xE4\xBD\xA0 \xF0\x9F\x98\x80\"");
}

TEST(AppendJsonString, ReplacesBrokenUtf8) {
  const std::string bad = "\xEF\xBF\xBD";
  EXPECT_EQ(Quoted("a\x80z"), "\"a" + bad + "z\"");
  EXPECT_EQ(Quoted("\xC0\xAF"), "\"" + bad + bad + "\"");            // overlong
  EXPECT_EQ(Quoted("\xED\xA0\x80"), "\"" + bad + bad + bad + "\"");  // surrogate
  EXPECT_EQ(Quoted("\xE4\xBD"), "\"" + bad + bad + "\"");            // cut short
  EXPECT_EQ(Quoted("\xF4\x90\x80\x80").size(), 14U);                 // beyond U+10FFFF
}

TEST(AppendJsonString, ReadsBackForRandomBytes) {
  const uint32_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  for (int round = 0; round < 3000; ++round) {
    std::string text(random() % 40, '\0');
    for (char& c : text) {
      c = static_cast<char>(random() % 3 == 0 ? random() % 256 : random() % 128);
    }
    const auto parsed = nlohmann::json::parse(Quoted(text));
    const auto dump = [&](nlohmann::json::error_handler_t mode) {
      return nlohmann::json(text).dump(-1, ' ', false, mode);
    };
    // Equal under both ways of mending it means that nothing was broken.
    if (dump(nlohmann::json::error_handler_t::ignore) ==
        dump(nlohmann::json::error_handler_t::replace)) {
      EXPECT_EQ(parsed.get<std::string>(), text);
    }
  }
}

}  // namespace
}  // namespace mach
