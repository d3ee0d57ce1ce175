#include "server/request_memory.h"

#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/server/app_fixture.h"

namespace mach::server {
namespace {

TEST(RequestMemory, IsBookedOnTheBudgetUpToItsLimit) {
  MemoryBudget budget;
  RequestMemory memory(&budget, 1000);
  EXPECT_EQ(budget.BytesByOwner().at("requests"), 0U);
  RequestMemory::Hold one(memory);
  EXPECT_TRUE(one.Resize(600));
  {
    RequestMemory::Hold two(memory);
    EXPECT_FALSE(two.Resize(500));
    EXPECT_EQ(two.bytes(), 0U);
    EXPECT_TRUE(two.Resize(400));
    EXPECT_FALSE(one.Resize(601));
    EXPECT_EQ(one.bytes(), 600U);
    EXPECT_EQ(budget.TotalBytes(), 1000U);
  }
  EXPECT_TRUE(one.Resize(1000));
  RequestMemory::Hold moved = std::move(one);
  EXPECT_EQ(moved.bytes(), 1000U);
  EXPECT_TRUE(moved.Resize(10));
  EXPECT_EQ(budget.BytesByOwner().at("requests"), 10U);
}

TEST(RequestMemory, DoesNotPassTheCeilingEither) {
  MemoryBudget budget(1000);
  budget.Book("weights", 900);
  RequestMemory memory(&budget, 0);
  RequestMemory::Hold hold(memory);
  EXPECT_FALSE(hold.Resize(101));
  EXPECT_TRUE(hold.Resize(100));
  EXPECT_THROW(budget.Book("kv", 1), Error);
}

TEST(RequestMemory, SaysWhetherTryingAgainHelps) {
  MemoryBudget budget;
  RequestMemory memory(&budget, 2'000'000);
  RequestMemory::Hold hold(memory);
  ASSERT_TRUE(hold.Resize(1'500'000));
  const api::ErrorInfo later = memory.Refusal(1'000'000, "its answer", "Ask for less");
  EXPECT_EQ(later.status, 503);
  EXPECT_GT(later.retry_after_s, 0);
  EXPECT_NE(later.message.find("0.001 GB of memory for its answer"), std::string::npos)
      << later.message;
  EXPECT_NE(later.message.find("0.0015 GB of the 0.002 GB"), std::string::npos) << later.message;
  const api::ErrorInfo never = memory.Refusal(2'000'001, "its answer", "Ask for less");
  EXPECT_EQ(never.status, 400);
  EXPECT_EQ(never.code, "out_of_memory");
  EXPECT_NE(never.message.find("Ask for less"), std::string::npos);
  EXPECT_NE(never.message.find("--memory-gb"), std::string::npos);
}

// The whole server with little memory for requests.
class LowMemory : public ServerAppTest {
 protected:
  uint64_t Held() { return host_->ready()->budget->BytesByOwner().at("requests"); }
};

constexpr char kLogprobs[] = R"({"logprobs":true,"top_logprobs":20,"n":8})";

TEST_F(LowMemory, AnAnswerThatCanNeverFitIsRefusedBeforeItIsQueued) {
  fake_.request_bytes = 8 << 20;
  Start();
  const Reply reply = Call("POST", kChat, ChatBody("hi", kLogprobs));
  EXPECT_EQ(reply.status, 400) << reply.body;
  const Json error = reply.json()["error"];
  EXPECT_EQ(error["code"], "out_of_memory");
  const std::string message = error["message"];
  for (const char* part : {"0.00839 GB", "--memory-gb", "'max_tokens'", "logprobs", "stream"}) {
    EXPECT_NE(message.find(part), std::string::npos) << part << " is not in " << message;
  }
  EXPECT_EQ(engine().Snapshot().requests_total, 0);
  // What the cures say does help.
  EXPECT_EQ(Call("POST", kChat, ChatBody("hi")).status, 200);
  Json fewer = Json::parse(ChatBody("hi", kLogprobs));
  fewer["max_tokens"] = 100;
  EXPECT_EQ(Call("POST", kChat, fewer.dump()).status, 200);
  fewer.erase("max_tokens");
  fewer["stream"] = true;
  EXPECT_EQ(Stream(kChat, fewer.dump()).back(), "[DONE]");
  EXPECT_TRUE(WaitFor([this] { return Held() == 0; })) << Held();
}

TEST_F(LowMemory, OneThatOthersKeepOutMayTryAgain) {
  fake_.request_bytes = 8 << 20;
  Start();
  // Of the two, one fits.
  const char* const kMore = R"({"logprobs":true,"top_logprobs":20,"max_tokens":3000})";
  RawClient first(server_->port());
  first.Send(Request("POST", kChat, ChatBody("[[prefill]]", kMore)));
  ASSERT_TRUE(WaitFor([&] { return engine().Snapshot().requests_active == 1; }));
  const Reply reply = Call("POST", kChat, ChatBody("hi", kMore));
  EXPECT_EQ(reply.status, 503);
  EXPECT_EQ(reply.json()["error"]["code"], "server_busy");
  EXPECT_NE(reply.head.find("Retry-After: "), std::string::npos);
  first.Close();
  EXPECT_TRUE(WaitFor([this] { return Held() == 0; })) << Held();
  EXPECT_EQ(Call("POST", kChat, ChatBody("hi", kMore)).status, 200);
}

TEST_F(LowMemory, BodiesCount) {
  fake_.request_bytes = 8 << 20;
  fake_.max_context = 3'000'000;
  Start();
  // What can never fit is the client's fault: larger than the memory, or too large once parsed.
  EXPECT_EQ(Call("POST", kChat, ChatBody(std::string(9 << 20, 'x'))).status, 400);
  const Reply parsed = Call("POST", kChat, ChatBody(std::string(2 << 20, 'x')));
  EXPECT_EQ(parsed.status, 400);
  EXPECT_NE(parsed.body.find("for its body"), std::string::npos) << parsed.body;
  Json many = {{"prompt", std::vector<int>(200'000, 1)}, {"max_tokens", 1}};
  EXPECT_EQ(Call("POST", "/v1/completions", many.dump()).status, 400) << "values count, not text";
  EXPECT_EQ(Call("POST", kChat, ChatBody(std::string(1 << 19, 'x'), R"({"max_tokens":3})")).status,
            200);
  EXPECT_TRUE(WaitFor([this] { return Held() == 0; })) << Held();
}

}  // namespace
}  // namespace mach::server
