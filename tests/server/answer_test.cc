// An answer between a scripted engine and an exchange that takes what the test lets it take.
#include "server/answer.h"

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "base/clock.h"

namespace mach::server {
namespace {

// A client that takes nothing until Take.
class SlowExchange : public http::Exchange {
 public:
  http::Request& request() override { return request_; }
  void Post(std::function<void()> work) override { posted_.push_back(std::move(work)); }
  void Respond(http::Response response) override {
    text = response.body.Join();
    status = response.status;
    holds = std::move(response.holds);
    finished = true;
  }
  void StartStream(http::Response /*head*/, std::function<std::string()> /*heartbeat*/) override {}
  void Write(std::string_view data) override {
    text += data;
    backlog_bytes_ += data.size();
    most_backlog_bytes = std::max(most_backlog_bytes, backlog_bytes_);
  }
  void Finish() override {
    finished = true;
    on_drained_ = {};  // which holds the generation
  }
  size_t backlog_bytes() const override { return backlog_bytes_; }
  void OnDrained(std::function<void()> callback) override { on_drained_ = std::move(callback); }
  void OnClose(std::function<void()> /*callback*/) override {}
  bool closed() const override { return false; }

  void RunPosted() {
    while (!posted_.empty()) {
      const auto work = std::move(posted_);
      posted_.clear();
      for (const auto& one : work) {
        one();
      }
    }
  }
  void Take() {
    backlog_bytes_ = 0;
    const auto drained = on_drained_;  // it may end the exchange
    drained();
    RunPosted();
  }

  std::string text;
  int status = 0;
  std::shared_ptr<void> holds;
  size_t most_backlog_bytes = 0;
  bool finished = false;

 private:
  http::Request request_{.id = "id-1"};
  std::vector<std::function<void()>> posted_;
  std::function<void()> on_drained_;
  size_t backlog_bytes_ = 0;
};

class ScriptedEngine : public engine::Engine {
 public:
  engine::GenerationHandles SubmitAll(std::vector<engine::Submission> submissions) override {
    sink = std::move(submissions.at(0).sink);
    engine::GenerationHandles handles;
    handles.push_back(std::make_unique<Handle>(*this));
    return handles;
  }
  engine::EngineStats Snapshot() const override { return {}; }
  void Shutdown(double /*grace_s*/) override {}

  std::shared_ptr<engine::GenerationSink> sink;
  int cancels = 0;

 private:
  class Handle : public engine::GenerationHandle {
   public:
    explicit Handle(ScriptedEngine& engine) : engine_(engine) {}
    void Cancel() override { ++engine_.cancels; }

   private:
    ScriptedEngine& engine_;
  };
};

// What is started and driven by a test.
struct Running {
  explicit Running(
      bool stream, bool logprobs, RequestMemory& memory, uint64_t expected_bytes = 0,
      std::unique_ptr<api::AnswerEncoder> (*make)(api::AnswerSpec) = api::MakeChatEncoder) {
    AnswerOptions options;
    options.id = "chatcmpl-1";
    options.encoder = make({.stream = stream, .logprobs = logprobs});
    options.stream = stream;
    options.logprobs = logprobs;
    options.arrived_s = NowSeconds();
    options.memory = &memory;
    RequestMemory::Hold hold(memory);
    EXPECT_TRUE(hold.Resize(expected_bytes));
    Answer::Hooks hooks{
        .respond = [](http::Exchange& target,
                      http::Response response) { target.Respond(std::move(response)); },
        .fail =
            [](const api::ErrorInfo& info) {
              http::Response response;
              response.status = info.status;
              response.body = Pieces(api::ErrorBody(info));
              return response;
            },
        .stream_head = [] { return http::Response(); },
        .on_end = [this](const http::Request&, const AnswerRecord& ended, int) { record = ended; }};
    std::make_shared<Answer>(exchange, std::move(options), std::move(hold), std::move(hooks))
        ->Submit(engine, std::vector<engine::GenerationRequest>(1));
    exchange->RunPosted();
  }
  void End() {
    engine.sink->OnFinish({});
    engine.sink->OnDone({});
    engine.sink = nullptr;
  }

  ScriptedEngine engine;
  std::shared_ptr<SlowExchange> exchange = std::make_shared<SlowExchange>();
  std::optional<AnswerRecord> record;
};

engine::Delta WithLogprobs() {
  engine::Delta delta{.pieces = {{.text = "x"}}};
  delta.tokens.push_back({.logprob = -1, .bytes = "x"});
  delta.tokens[0].top.assign(20, {.logprob = -1, .bytes = "\xE4\xBD\xA0\xE5\xA5\xBD"});
  return delta;
}

// What a streamed answer of these deltas sends to a client that begins to read at their end.
std::shared_ptr<SlowExchange> Send(bool logprobs, int64_t count, const engine::Delta& delta) {
  RequestMemory memory(nullptr, 0);
  Running running(/*stream=*/true, logprobs, memory);
  const auto exchange = running.exchange;
  exchange->Write(std::string(20 << 10, ' '));  // as much as it may have waiting, and more
  for (int64_t i = 0; i < count; ++i) {
    running.engine.sink->OnDelta(delta);
    exchange->RunPosted();
  }
  running.End();
  for (int takes = 0; !exchange->finished && takes < 1000; ++takes) {
    exchange->Take();
  }
  EXPECT_TRUE(exchange->finished);
  return exchange;
}

size_t Count(const std::string& text, const std::string& what) {
  size_t count = 0;
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) {
    ++count;
  }
  return count;
}

// Of the connection's limit of a MiB.
constexpr size_t kBound = 512 << 10;

TEST(Answer, ASlowReaderGetsAllItsLogprobsInPieces) {
  const auto exchange = Send(/*logprobs=*/true, 2000, WithLogprobs());
  EXPECT_GT(exchange->text.size(), size_t{2} << 20);
  EXPECT_LT(exchange->most_backlog_bytes, kBound);
  EXPECT_EQ(Count(exchange->text, "\"top_logprobs\""), 2000U);
  EXPECT_NE(exchange->text.find("data: [DONE]"), std::string::npos);
}

TEST(Answer, ASlowReaderGetsALongTextInPieces) {
  // Control characters are six times as long in JSON.
  const auto exchange =
      Send(/*logprobs=*/false, 30000, {.pieces = {{.text = std::string(100, '\x01')}}});
  EXPECT_LT(exchange->most_backlog_bytes, kBound);
  EXPECT_EQ(Count(exchange->text, "\\u0001"), 3'000'000U);
  EXPECT_NE(exchange->text.find("data: [DONE]"), std::string::npos);
}

TEST(Answer, TheFirstTokenIsTimedWhereItIsMade) {
  RequestMemory memory(nullptr, 0);
  Running running(/*stream=*/true, /*logprobs=*/false, memory);
  running.engine.sink->OnDelta({.pieces = {{.text = "x"}}});
  std::this_thread::sleep_for(std::chrono::milliseconds(300));  // before anyone takes it
  running.engine.sink->OnDelta({.pieces = {{.text = "y"}}});
  running.End();
  running.exchange->RunPosted();
  ASSERT_TRUE(running.record);
  EXPECT_LT(running.record->first_token_s, running.record->total_s - 0.25);
}

TEST(Answer, WhatAWholeAnswerTakesIsHeldUntilItHasLeft) {
  MemoryBudget budget;
  RequestMemory memory(&budget, 0);
  {
    Running running(/*stream=*/false, /*logprobs=*/true, memory, /*expected_bytes=*/1000);
    EXPECT_EQ(budget.TotalBytes(), 1000U);
    for (int i = 0; i < 1000; ++i) {
      running.engine.sink->OnDelta(WithLogprobs());
      running.exchange->RunPosted();
    }
    // More than was expected, and more is held.
    EXPECT_GT(budget.TotalBytes(), 1U << 20);
    EXPECT_EQ(budget.BytesByOwner().at("requests"), budget.TotalBytes());
    running.End();
    running.exchange->RunPosted();
    ASSERT_TRUE(running.record);
    EXPECT_EQ(running.exchange->status, 200);
    EXPECT_EQ(budget.TotalBytes(), running.exchange->text.size());
    running.exchange->holds.reset();
    EXPECT_EQ(budget.TotalBytes(), 0U);
  }
}

TEST(Answer, AWholeAnswerThatOutgrowsMemoryEndsWithTheReason) {
  MemoryBudget budget;
  RequestMemory memory(&budget, 200'000);
  Running running(/*stream=*/false, /*logprobs=*/true, memory);
  int deltas = 0;
  for (; running.engine.cancels == 0 && deltas < 1000; ++deltas) {
    running.engine.sink->OnDelta(WithLogprobs());
    running.exchange->RunPosted();
  }
  EXPECT_LT(deltas, 1000);
  running.engine.sink->OnError(Error(ErrorCode::kCancelled, "cancelled"));
  running.exchange->RunPosted();
  ASSERT_TRUE(running.record);
  EXPECT_TRUE(running.record->failed());
  EXPECT_EQ(running.exchange->status, 400);
  for (const char* part : {"0.0002 GB", "--memory-gb", "'max_tokens'", "out_of_memory"}) {
    EXPECT_NE(running.exchange->text.find(part), std::string::npos) << running.exchange->text;
  }
}

TEST(Answer, AStreamHoldsWhatItsClientHasNotRead) {
  MemoryBudget budget;
  RequestMemory memory(&budget, 0);
  Running running(/*stream=*/true, /*logprobs=*/true, memory, /*expected_bytes=*/1000);
  running.exchange->Write(std::string(20 << 10, ' '));
  for (int i = 0; i < 1000; ++i) {
    running.engine.sink->OnDelta(WithLogprobs());
    running.exchange->RunPosted();
  }
  EXPECT_GT(budget.TotalBytes(), 1U << 20);
  for (int takes = 0; takes < 1000; ++takes) {
    running.exchange->Take();
  }
  EXPECT_LT(budget.TotalBytes(), 200'000U);
  running.End();
  running.exchange->RunPosted();
  ASSERT_TRUE(running.exchange->finished);
  EXPECT_EQ(budget.TotalBytes(), 0U);
}

TEST(Answer, AStreamWhoseLastEventHoldsItAllHoldsItUntilThen) {
  MemoryBudget budget;
  RequestMemory memory(&budget, 300'000);
  Running running(/*stream=*/true, /*logprobs=*/false, memory, 0, api::MakeResponsesEncoder);
  const engine::Delta delta{.pieces = {{.text = std::string(1000, 'x')}}};
  for (int i = 0; i < 100; ++i) {
    running.engine.sink->OnDelta(delta);
    running.exchange->RunPosted();
    running.exchange->Take();
  }
  EXPECT_GT(budget.TotalBytes(), 100'000U);
  for (int i = 0; !running.exchange->finished && i < 1000; ++i) {
    running.exchange->Take();
    running.engine.sink->OnDelta(delta);
    running.exchange->RunPosted();
  }
  EXPECT_EQ(running.engine.cancels, 1);
  running.engine.sink->OnError(Error(ErrorCode::kCancelled, "cancelled"));
  running.engine.sink = nullptr;
  running.exchange->RunPosted();
  ASSERT_TRUE(running.exchange->finished);
  EXPECT_NE(running.exchange->text.find("event: response.failed"), std::string::npos);
  EXPECT_NE(running.exchange->text.find("its answer"), std::string::npos);
  EXPECT_EQ(budget.TotalBytes(), 0U);
}

TEST(Answer, AStreamThatMemoryHasNoRoomForIsToldSo) {
  MemoryBudget budget;
  RequestMemory memory(&budget, 200'000);
  Running running(/*stream=*/true, /*logprobs=*/true, memory);
  running.exchange->Write(std::string(20 << 10, ' '));
  for (int i = 0; running.engine.cancels == 0 && i < 1000; ++i) {
    running.engine.sink->OnDelta(WithLogprobs());
    running.exchange->RunPosted();
  }
  EXPECT_EQ(running.engine.cancels, 1);
  running.engine.sink->OnError(Error(ErrorCode::kCancelled, "cancelled"));
  running.exchange->Take();
  ASSERT_TRUE(running.exchange->finished);
  EXPECT_NE(running.exchange->text.find("--memory-gb"), std::string::npos);
  EXPECT_NE(running.exchange->text.find("data: [DONE]"), std::string::npos);
}

}  // namespace
}  // namespace mach::server
