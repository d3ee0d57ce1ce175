// What the flags say arrives in the options, and what means nothing is refused.
#include "app/residency_flags.h"

#include <algorithm>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace mach::app {
namespace {

using loading::Residency;

struct Parsed {
  loading::ModelOptions options;
  Residency residency = Residency::kFitting;
};

Parsed Parse(std::vector<std::string> arguments) {
  Parsed parsed;
  ResidencyFlags flags;
  CLI::App app;
  flags.Register(app, "Memory", Residency::kFitting, parsed.options);
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 takes them
  app.parse(arguments);
  parsed.residency = flags.Resolve();
  return parsed;
}

TEST(ResidencyFlags, ArriveInTheOptions) {
  const Parsed parsed = Parse({"--streaming", "--expert-cache-gb", "1.5", "--expert-prefetch",
                               "--expert-policy", "lru", "--io", "pread", "--allow-buffered-io",
                               "--expert-trace", "trace", "--prefill-chunk", "64"});
  EXPECT_EQ(parsed.residency, Residency::kStreaming);
  const experts::StreamOptions& streaming = parsed.options.streaming;
  EXPECT_EQ(streaming.bank_bytes, 1'500'000'000U);
  EXPECT_TRUE(streaming.prefetch);
  EXPECT_EQ(streaming.policy, "lru");
  EXPECT_EQ(streaming.read.engine, "pread");
  EXPECT_TRUE(streaming.read.allow_buffered);
  EXPECT_EQ(parsed.options.trace_file, "trace");
  EXPECT_EQ(parsed.options.engine.prefill_chunk, 64);
}

TEST(ResidencyFlags, WithoutThemTheDefaultsStay) {
  const Parsed parsed = Parse({});
  EXPECT_EQ(parsed.residency, Residency::kFitting);
  EXPECT_EQ(parsed.options.streaming.bank_bytes, 0U);
  EXPECT_EQ(parsed.options.streaming.policy, experts::StreamOptions{}.policy);
  EXPECT_EQ(Parse({"--no-streaming"}).residency, Residency::kResident);
}

TEST(ResidencyFlags, ThoseOfStreamingNeedIt) {
  const std::vector<std::vector<std::string>> flags = {
      {"--expert-cache-gb", "1"}, {"--expert-prefetch"}, {"--no-expert-prefetch"},
      {"--expert-policy", "lru"}, {"--io", "auto"},      {"--allow-buffered-io"}};
  for (const auto& flag : flags) {
    try {
      Parse(flag);
      ADD_FAILURE() << flag[0] << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      EXPECT_THAT(error.what(), testing::HasSubstr("belongs to --streaming"));
    }
  }
  EXPECT_THROW(Parse({"--streaming", "--no-streaming"}), Error);
}

}  // namespace
}  // namespace mach::app
