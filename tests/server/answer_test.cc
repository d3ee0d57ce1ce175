// A generation between a scripted engine and an exchange that takes what the test lets it take.
#include "server/generation.h"

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace mach::server {
namespace {

// A client that takes nothing until Take.
class SlowExchange : public http::Exchange {
 public:
  http::Request& request() override { return request_; }
  void Post(std::function<void()> work) override { posted_.push_back(std::move(work)); }
  void Respond(http::Response /*response*/) override {}
  void StartStream(http::Response /*head*/, bool /*event_stream*/) override {}
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
  size_t most_backlog_bytes = 0;
  bool finished = false;

 private:
  http::Request request_;
  std::vector<std::function<void()>> posted_;
  std::function<void()> on_drained_;
  size_t backlog_bytes_ = 0;
};

class ScriptedEngine : public engine::Engine {
 public:
  engine::GenerationHandles SubmitAll(std::vector<engine::Submission> submissions) override {
    sink = std::move(submissions.at(0).sink);
    engine::GenerationHandles handles;
    handles.push_back(std::make_unique<Handle>());
    return handles;
  }
  engine::EngineStats Snapshot() const override { return {}; }
  void Shutdown(double /*grace_s*/) override {}

  std::shared_ptr<engine::GenerationSink> sink;

 private:
  class Handle : public engine::GenerationHandle {
   public:
    void Cancel() override {}
  };
};

// What a streamed generation of these deltas sends to a client that begins to read at their end.
std::shared_ptr<SlowExchange> Send(bool logprobs, int64_t count, const engine::Delta& delta) {
  const auto exchange = std::make_shared<SlowExchange>();
  ScriptedEngine engine;
  GenerationOptions options;
  options.stream = true;
  options.logprobs = logprobs;
  const Generation::Hooks hooks{
      .respond = [](http::Exchange&, http::Response) {},
      .stream_head = [] { return http::Response(); },
      .on_end = [](const http::Request&, const GenerationRecord&, int) {}};
  std::make_shared<Generation>(exchange, options, hooks)
      ->Submit(engine, std::vector<engine::GenerationRequest>(1));
  exchange->RunPosted();
  exchange->Write(std::string(20 << 10, ' '));  // as much as it may have waiting, and more
  for (int64_t i = 0; i < count; ++i) {
    engine.sink->OnDelta(delta);
    exchange->RunPosted();
  }
  engine.sink->OnFinish({});
  engine.sink->OnDone({});
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

TEST(Generation, ASlowReaderGetsAllItsLogprobsInPieces) {
  engine::Delta delta{.pieces = {{.text = "x"}}};
  delta.tokens.push_back({.logprob = -1, .bytes = "x"});
  delta.tokens[0].top.assign(20, {.logprob = -1, .bytes = "\xE4\xBD\xA0\xE5\xA5\xBD"});
  const auto exchange = Send(/*logprobs=*/true, 2000, delta);
  EXPECT_GT(exchange->text.size(), size_t{2} << 20);
  EXPECT_LT(exchange->most_backlog_bytes, kBound);
  EXPECT_EQ(Count(exchange->text, "\"top_logprobs\""), 2000U);
  EXPECT_NE(exchange->text.find("data: [DONE]"), std::string::npos);
}

TEST(Generation, ASlowReaderGetsALongTextInPieces) {
  // Control characters are six times as long in JSON.
  const auto exchange =
      Send(/*logprobs=*/false, 30000, {.pieces = {{.text = std::string(100, '\x01')}}});
  EXPECT_LT(exchange->most_backlog_bytes, kBound);
  EXPECT_EQ(Count(exchange->text, "\\u0001"), 3'000'000U);
  EXPECT_NE(exchange->text.find("data: [DONE]"), std::string::npos);
}

}  // namespace
}  // namespace mach::server
