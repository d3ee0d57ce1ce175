#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

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
  EXPECT_NE(out.find("\"level\":\"warning\",\"message\":\"a \\\"quoted\\\"\\nline {}\","
                     "\"path\":\"C:\\\\x\",\"seconds\":0.25}"),
            std::string::npos)
      << out;
}

TEST(Log, LinesAreUtf8WhateverTheirFieldsHold) {
  for (const LogFormat format : {LogFormat::kJson, LogFormat::kText}) {
    ConfigureLog(LogLevel::kInfo, format);
    testing::internal::CaptureStderr();
    LogInfo("request refused", {{"path", "/\xC3\xA4\xFF\xC3"}, {"error", "\xF0\x9F\x98"}});
    const std::string out = testing::internal::GetCapturedStderr();
    ConfigureLog(LogLevel::kInfo, LogFormat::kText);
    constexpr char kMark[] = "\xEF\xBF\xBD";
    EXPECT_NE(out.find(std::string("\"/\xC3\xA4") + kMark + kMark + "\""), std::string::npos)
        << out;
    EXPECT_NE(out.find(std::string("\"") + kMark + kMark + kMark + "\""), std::string::npos) << out;
  }
}

// stderr as a pipe that nobody reads, for as long as this lives.
class StderrPipe {
 public:
  StderrPipe() : saved_(dup(STDERR_FILENO)) {
    EXPECT_EQ(pipe(ends_), 0);
    fcntl(ends_[0], F_SETFL, O_NONBLOCK);
    dup2(ends_[1], STDERR_FILENO);
  }
  StderrPipe(const StderrPipe&) = delete;
  StderrPipe& operator=(const StderrPipe&) = delete;
  ~StderrPipe() {
    dup2(saved_, STDERR_FILENO);
    close(saved_);
    close(ends_[0]);
    close(ends_[1]);
  }

  std::string ReadAll() const {
    std::string out;
    char buffer[4096];
    for (ssize_t got = 0; (got = read(ends_[0], buffer, sizeof(buffer))) > 0;) {
      out.append(buffer, static_cast<size_t>(got));
    }
    return out;
  }

 private:
  int saved_;
  int ends_[2] = {-1, -1};
};

TEST(Log, DropsAndCountsWhatNobodyReads) {
  ConfigureLog(LogLevel::kInfo, LogFormat::kText);
  const StderrPipe pipe;
  constexpr int kThreads = 4;
  constexpr int kLines = 2000;
  const auto fill = [](const std::string& text) {
    std::vector<std::thread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&text] {
        for (int line = 0; line < kLines; ++line) {
          LogInfo(text);
        }
      });
    }
    for (std::thread& thread : threads) {
      thread.join();
    }
  };
  const auto count = [](const std::string& out, const std::string& what) {
    int64_t found = 0;
    for (size_t at = out.find(what); at != std::string::npos; at = out.find(what, at + 1)) {
      ++found;
    }
    return found;
  };
  // Far more than a pipe takes, in lines that do and do not go out as one write.
  for (const size_t size : {100U, 10000U}) {
    const std::string text = "<" + std::string(size, 'x') + ">";
    fill(text);
    std::string out = pipe.ReadAll();
    LogInfo("after");
    out += pipe.ReadAll();
    const size_t said = out.find("warning log lines dropped count=");
    ASSERT_NE(said, std::string::npos);
    EXPECT_EQ(std::stoll(out.substr(said + 32)) + count(out, text), kThreads * kLines);
    EXPECT_NE(out.find("info after\n"), std::string::npos);
  }
}

}  // namespace
}  // namespace mach
