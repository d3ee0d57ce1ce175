// The log lines and counters of requests: what each says and that it is said once.
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/server/app_fixture.h"
#include "tests/server/reports_page.h"

namespace mach::server {
namespace {

// What the log has of generations. A line is written before the metrics count its request.
class RequestLog : public ServerAppTest {
 protected:
  std::string LogUntil(const std::string& metric, const std::function<void()>& action) {
    ::testing::internal::CaptureStderr();
    action();
    EXPECT_TRUE(WaitFor([&] {
      return Call("GET", "/metrics").body.find("\n" + metric + "\n") != std::string::npos;
    })) << metric;
    return ::testing::internal::GetCapturedStderr();
  }

  static void ExpectParts(const std::string& log, const std::vector<std::string>& parts) {
    for (const std::string& part : parts) {
      EXPECT_NE(log.find(part), std::string::npos) << part << " is not in " << log;
    }
  }
  static void ExpectOneLine(const std::string& log) {
    EXPECT_EQ(log.find('\n'), log.size() - 1) << log;
  }
};

TEST_F(RequestLog, AFailureIsOneErrorWithItsCauseAndWhatItCost) {
  fake_.streaming = true;
  Start();
  const std::vector<std::string> parts = {
      " error request id=",
      " completion_tokens=3 ",
      " queue_s=",
      " prefill_s=",
      " decode_s=",
      " first_token_s=",
      " expert_misses=10 expert_prefill_misses=20 expert_bytes_read=491520 expert_stall_s=0.75 ",
      " cancelled=false failed=true ",
      " error=\"cannot read layer_0001.bin, expert 3 at offset 49152\"\n"};
  std::string log = LogUntil("mach_generations_failed_total 1",
                             [this] { Call("POST", kChat, ChatBody("[[disk]]")); });
  ExpectParts(log, parts);
  ExpectParts(log, {" status=500 "});
  ExpectOneLine(log);
  EXPECT_EQ(mach::testing::Matches(log, " ([a-z_]+)="),
            mach::testing::Documented("Log line of a request"));
  log = LogUntil("mach_generations_failed_total 2",
                 [this] { Stream(kChat, ChatBody("[[disk]]", R"({"stream":true})")); });
  ExpectParts(log, parts);
  ExpectParts(log, {" status=200 "});
  ExpectOneLine(log);
}

TEST_F(RequestLog, TheClientOfAnInternalFaultLearnsUnderWhichIdTheLogHasIt) {
  Start();
  for (const bool stream : {false, true}) {
    std::string error;
    const std::string log =
        LogUntil("mach_generations_failed_total " + std::to_string(stream ? 2 : 1), [&] {
          const auto events =
              stream ? Stream(kChat, ChatBody("[[disk]]", R"({"stream":true})"))
                     : std::vector{Call("POST", kChat, ChatBody("[[disk]]")).body, std::string()};
          error = events.at(events.size() - 2);
        });
    const std::string message = Json::parse(error)["error"]["message"];
    const size_t at = log.find(" id=") + 4;
    const std::string id = log.substr(at, log.find(' ', at) - at);
    EXPECT_NE(message.find(id), std::string::npos) << message << log;
    EXPECT_EQ(error.find("layer_0001.bin"), std::string::npos) << error;
    ExpectParts(log, {"layer_0001.bin"});
  }
}

TEST_F(RequestLog, WhatIsTheClientsFaultIsNoError) {
  Start();
  const std::string log = LogUntil("mach_generations_failed_total 1", [this] {
    Call("POST", kChat, ChatBody("[[memory]]"));
    Call("POST", kChat, "{");
  });
  ExpectParts(log, {" info request id=", " status=400 ", " failed=true ",
                    "error=\"there is memory for 64 tokens", " info request refused id="});
  EXPECT_EQ(log.find("expert"), std::string::npos) << "a dense model";
}

TEST_F(RequestLog, WhatNeverRanIsNotCounted) {
  fake_.max_queue = 1;
  Start();
  auto clients = Occupy(1);
  const std::string log = LogUntil("mach_generations_rejected_total 1",
                                   [this] { Call("POST", kChat, ChatBody("hi")); });
  ExpectParts(log, {" info request id=", " status=503 ", " cancelled=false failed=false "});
  ExpectOneLine(log);
  clients.clear();
  const auto has = [this](const std::string& line) {
    return Call("GET", "/metrics").body.find("\n" + line + "\n") != std::string::npos;
  };
  EXPECT_TRUE(WaitFor([&] { return has("mach_generations_cancelled_total 2"); }));
  EXPECT_TRUE(has("mach_generations_failed_total 0"));
  EXPECT_TRUE(has("mach_prompt_tokens_total 0"));
  Call("POST", kChat, ChatBody("hi", R"({"max_tokens":2})"));
  EXPECT_TRUE(WaitFor([&] { return has("mach_prompt_tokens_total 20"); }));
}

TEST_F(RequestLog, CancelledRequestsSayHowFarTheyCame) {
  fake_.streaming = true;
  Start();
  for (const bool stream : {true, false}) {
    const int before = stream ? 0 : 2;
    const char* const more = stream ? R"({"stream":true})" : "{}";
    RawClient running(server_->port());
    running.Send(Request("POST", kChat, ChatBody("[[prefill]]", more)));
    ASSERT_TRUE(WaitFor([&] { return engine().Snapshot().requests_active == 1; }));
    RawClient waiting(server_->port());
    waiting.Send(Request("POST", kChat, ChatBody("hi", more)));
    ASSERT_TRUE(WaitFor([&] { return engine().Snapshot().requests_queued == 1; }));
    std::string log = LogUntil("mach_generations_cancelled_total " + std::to_string(before + 1),
                               [&] { waiting.Close(); });
    ExpectParts(log, {" info request id=", " status=499 ", " prompt_tokens=20 ",
                      " completion_tokens=0 ", " queue_s=", " cancelled=true failed=false\n"});
    for (const char* none : {"prefill_s", "decode_s", "first_token_s", "expert_", "error"}) {
      EXPECT_EQ(log.find(none), std::string::npos) << none << " is in " << log;
    }
    ExpectOneLine(log);
    log = LogUntil("mach_generations_cancelled_total " + std::to_string(before + 2),
                   [&] { running.Close(); });
    ExpectParts(log, {" status=499 ", " prefill_s=", " expert_prefill_misses=20 ",
                      " expert_bytes_read=491520 ", " cancelled=true failed=false\n"});
    for (const char* none : {"decode_s", "first_token_s", "expert_misses"}) {
      EXPECT_EQ(log.find(none), std::string::npos) << none << " is in " << log;
    }
    ExpectOneLine(log);
  }
}

}  // namespace
}  // namespace mach::server
