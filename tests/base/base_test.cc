#include <cstring>
#include <string>

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/gigabytes.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/shell.h"

namespace mach {
namespace {

std::span<const std::byte> Bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

TEST(Error, DescribesMessageAndCure) {
  const Error error(ErrorCode::kNotFound, "no config.json in /x", "fetch it");
  EXPECT_STREQ(error.what(), "no config.json in /x");
  EXPECT_EQ(error.Describe(), "no config.json in /x (fetch it)");
  EXPECT_EQ(ErrorCodeName(error.code()), "not_found");
  EXPECT_EQ(Error(ErrorCode::kIo, "m").Describe(), "m");
}

TEST(Hash, MatchesPublishedXxh3Vectors) {
  // XXH3 of the empty input with seed 0, from the xxHash specification's test vectors.
  EXPECT_EQ(Hash64({}), 0x2d06800538d394c2ULL);
  EXPECT_EQ(HashHex128({}), "99aa06d3014798d86001c324468d497f");
  EXPECT_NE(Hash64(Bytes("a")), Hash64(Bytes("b")));
  EXPECT_NE(Hash64(Bytes("a"), 1), Hash64(Bytes("a"), 2));
}

TEST(Shell, QuotesOnlyWhatNeedsIt) {
  EXPECT_EQ(ShellWord("/models/Qwen3-0.6B_4bit@main"), "/models/Qwen3-0.6B_4bit@main");
  EXPECT_EQ(ShellWord("/my models/x"), "'/my models/x'");
  EXPECT_EQ(ShellWord("it's"), "'it'\\''s'");
  EXPECT_EQ(ShellWord("~/$HOME"), "'~/$HOME'");
  EXPECT_EQ(ShellWord(""), "''");
}

TEST(Gigabytes, TextIsRoundedUpToThreeDigits) {
  EXPECT_EQ(GigabytesText(0), "0 GB");
  EXPECT_EQ(GigabytesText(1), "0.000000001 GB");
  EXPECT_EQ(GigabytesText(14'155'776), "0.0142 GB");
  EXPECT_EQ(GigabytesText(999'000'001), "1 GB");
  EXPECT_EQ(GigabytesText(19'499'999'999), "19.5 GB");
  EXPECT_EQ(GigabytesText(123'456'789'012), "124 GB");
}

TEST(Gigabytes, ExactIsExact) {
  EXPECT_EQ(GigabytesExact(4'000'000'000), "4");
  EXPECT_EQ(GigabytesExact(72'548'352), "0.072548352");
  EXPECT_EQ(GigabytesExact(1'500'000'000), "1.5");
}

TEST(Log, TextQuotesOnlyWhatNeedsIt) {
  ConfigureLog(LogLevel::kInfo, LogFormat::kText);
  testing::internal::CaptureStderr();
  LogInfo("request done", {{"id", "r-1"}, {"text", "two words"}, {"n", 3}, {"ok", true}});
  LogDebug("not shown");
  const std::string out = testing::internal::GetCapturedStderr();
  EXPECT_NE(out.find("info request done id=r-1 text=\"two words\" n=3 ok=true\n"),
            std::string::npos)
      << out;
  EXPECT_EQ(out.find("not shown"), std::string::npos);
}

TEST(Log, JsonLinesEscape) {
  ConfigureLog(LogLevel::kInfo, LogFormat::kJson);
  testing::internal::CaptureStderr();
  LogWarning("a \"quoted\"\nline {}", {{"path", "C:\\x"}, {"seconds", 0.25}});
  const std::string out = testing::internal::GetCapturedStderr();
  ConfigureLog(LogLevel::kInfo, LogFormat::kText);
  EXPECT_NE(out.find("\"level\":\"warning\",\"message\":\"a \\\"quoted\\\"\\u000aline {}\","
                     "\"path\":\"C:\\\\x\",\"seconds\":0.25}"),
            std::string::npos)
      << out;
}

}  // namespace
}  // namespace mach
