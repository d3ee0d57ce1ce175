// The engine with a tiny real model: order of events, stops, seeds, queue, cancellation, failures.
#include "engine/local_engine.h"

#include <future>
#include <limits>
#include <mutex>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/clock.h"
#include "tests/engine/local_engine_fixture.h"
#include "tests/support/cpu_time.h"

namespace mach::engine {
namespace {

using testing_support::ProcessCpuSeconds;

// The options that most tests vary.
LocalEngineOptions With(std::vector<int32_t> end_tokens, int32_t max_queue = 8, int64_t chunk = 16,
                        int64_t max_context = 200) {
  return {.max_context = max_context,
          .prefill_chunk = chunk,
          .max_queue = max_queue,
          .end_tokens = std::move(end_tokens)};
}

TEST_F(LocalEngineTest, GreedyIsTheSameWheneverItRuns) {
  const Outcome first = Run(Request(20));
  ASSERT_TRUE(first.usage);
  EXPECT_EQ(first.usage->prompt_tokens, 5);
  EXPECT_EQ(first.usage->completion_tokens, 20);
  EXPECT_EQ(first.finish.at(0).reason, FinishReason::kLength);
  Start(With({}, 8, 2));  // other chunks
  EXPECT_EQ(Run(Request(20)).text.at(0), first.text.at(0));
}

TEST_F(LocalEngineTest, TheRecentRateIsRecent) {
  Run(Request(20));
  EXPECT_GT(engine_->Snapshot().recent_decode_tok_s, 0);
  const Stopwatch watch;
  while (engine_->Snapshot().recent_decode_tok_s > 0 && watch.ElapsedSeconds() < 60) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  EXPECT_LT(watch.ElapsedSeconds(), 60);
}

TEST_F(LocalEngineTest, SeedDecidesSampling) {
  GenerationRequest request = Request(20, 1.0F);
  request.sampling.seed = 7;
  const std::string a = Run(request).text.at(0);
  EXPECT_EQ(Run(request).text.at(0), a);
  request.sampling.seed = 8;
  EXPECT_NE(Run(request).text.at(0), a);
  request.sampling.seed = std::numeric_limits<int64_t>::max();
  request.choices = 2;  // the seed wraps round
  EXPECT_EQ(Run(request).text.size(), 2U);
  request.choices = 1;
  // Choice i is what a request with seed + i gives.
  request.sampling.seed = 6;
  request.choices = 3;
  const Outcome many = Run(request);
  EXPECT_EQ(many.text.at(1), a);
  EXPECT_NE(many.text.at(0), many.text.at(2));
  EXPECT_EQ(many.usage->completion_tokens, 60);
}

TEST_F(LocalEngineTest, StopsAtEndTokensStopTokensAndStrings) {
  const Outcome plain = Run(Request(12));
  const std::vector<int32_t> ids = tokenizer_->Encode(plain.text.at(0), false);
  ASSERT_EQ(ids.size(), 12U);
  const int32_t fourth = ids[3];
  const auto first_at = std::find(ids.begin(), ids.end(), fourth) - ids.begin();
  const std::string before =
      tokenizer_->Decode(std::span(ids).first(static_cast<size_t>(first_at)), false);

  GenerationRequest by_token = Request(12);
  by_token.stop.token_ids = {fourth};
  Outcome outcome = Run(by_token);
  EXPECT_EQ(outcome.text[0], before);
  EXPECT_EQ(outcome.finish.at(0).reason, FinishReason::kStop);
  EXPECT_EQ(std::get<int32_t>(outcome.finish.at(0).stop), fourth);
  EXPECT_EQ(outcome.usage->completion_tokens, first_at + 1);
  EXPECT_EQ(outcome.finish.at(0).generated_tokens, first_at + 1);

  GenerationRequest by_string = Request(12);
  by_string.stop.strings = {tokenizer_->TokenBytes(fourth)};
  outcome = Run(by_string);
  EXPECT_EQ(outcome.text[0], before);
  EXPECT_EQ(std::get<std::string>(outcome.finish.at(0).stop), tokenizer_->TokenBytes(fourth));

  GenerationRequest by_named_token = Request(12);
  by_named_token.stop.string_tokens = {{fourth, "<|end|>"}};
  outcome = Run(by_named_token);
  EXPECT_EQ(outcome.text[0], before);
  EXPECT_EQ(std::get<std::string>(outcome.finish.at(0).stop), "<|end|>");
  by_named_token.stop.include_stop_string = true;
  EXPECT_EQ(Run(by_named_token).text.at(0), before + "<|end|>");
  by_named_token.stop.min_tokens = 12;
  EXPECT_EQ(Run(by_named_token).usage->completion_tokens, 12);

  Start(With({fourth}));
  outcome = Run(by_string);
  EXPECT_TRUE(std::holds_alternative<std::monostate>(outcome.finish.at(0).stop));
  by_named_token.stop.min_tokens = 0;
  EXPECT_EQ(std::get<std::string>(Run(by_named_token).finish.at(0).stop), "<|end|>");
  outcome = Run(Request(12));
  EXPECT_EQ(outcome.text[0], before);
  EXPECT_TRUE(std::holds_alternative<std::monostate>(outcome.finish.at(0).stop));
  EXPECT_EQ(outcome.finish.at(0).generated_tokens, outcome.usage->completion_tokens);
  GenerationRequest ignoring = Request(12);
  ignoring.stop.ignore_eos = true;
  EXPECT_EQ(Run(ignoring).text.at(0), plain.text.at(0));
  GenerationRequest at_least = Request(12);
  at_least.stop.min_tokens = 12;
  EXPECT_EQ(Run(at_least).usage->completion_tokens, 12);
}

TEST_F(LocalEngineTest, LogprobsComeWithEachShownToken) {
  GenerationRequest request = Request(6);
  request.logprobs = true;
  request.top_logprobs = 2;
  const Outcome outcome = Run(request);
  const auto& tokens = outcome.tokens.at(0);
  ASSERT_EQ(tokens.size(), 6U);
  std::string joined;
  for (const GeneratedToken& token : tokens) {
    joined += token.bytes;
    ASSERT_EQ(token.top.size(), 2U);
    EXPECT_EQ(token.top[0].token, token.token);  // greedy
    EXPECT_EQ(token.top[0].logprob, token.logprob);
    EXPECT_LT(token.logprob, 0);
    EXPECT_GE(token.top[0].logprob, token.top[1].logprob);
  }
  EXPECT_EQ(joined, outcome.text.at(0));
}

TEST_F(LocalEngineTest, RefusesWhatCannotRun) {
  const auto sink = std::make_shared<RecordingSink>();
  GenerationRequest request = Request(196);  // 5 + 196 > 200
  EXPECT_THROW(engine_->Submit(request, sink), Error);
  request = Request(1);
  request.prompt_tokens.clear();
  EXPECT_THROW(engine_->Submit(request, sink), Error);
  request.prompt_tokens = {1 << 20};
  EXPECT_THROW(engine_->Submit(request, sink), Error);
  EXPECT_EQ(Run(Request(195)).usage->completion_tokens, 195);
}

TEST_F(LocalEngineTest, StopTokensThatLeaveNothingToChooseAreTheRequestsFault) {
  GenerationRequest request = Request(5);
  for (int32_t token = 0; token < tokenizer_->vocab_size(); ++token) {
    request.stop.token_ids.push_back(token);
  }
  EXPECT_EQ(Run(request).usage->completion_tokens, 1);
  request.stop.min_tokens = 2;
  const Outcome outcome = Run(request);
  ASSERT_TRUE(outcome.error);
  EXPECT_EQ(outcome.error->code(), ErrorCode::kInvalidArgument);
}

TEST_F(LocalEngineTest, CancelsRunningAndWaitingRequests) {
  Start(With({}, 2));
  const auto running = std::make_shared<RecordingSink>();
  std::promise<void> started;
  std::promise<void> release;
  std::once_flag once;
  running->on_delta = [&] {
    std::call_once(once, [&] {
      started.set_value();
      release.get_future().wait();
    });
  };
  const auto first = engine_->Submit(Request(190), running);
  started.get_future().wait();  // the inference thread now stands in the first delta

  const auto waiting = std::make_shared<RecordingSink>();
  auto second = engine_->Submit(Request(5), waiting);
  const auto also_waiting = std::make_shared<RecordingSink>();
  const auto third = engine_->Submit(Request(5), also_waiting);
  EXPECT_EQ(engine_->Snapshot().requests_queued, 2);
  EXPECT_THROW(engine_->Submit(Request(5), std::make_shared<RecordingSink>()), Error);

  std::vector<Submission> three(3, {Request(5), std::make_shared<RecordingSink>()});
  EXPECT_THROW(engine_->SubmitAll(std::move(three)), Error);
  EXPECT_EQ(engine_->Snapshot().requests_queued, 2);

  second.reset();  // a waiting request leaves at once
  const Outcome left = waiting->Wait();
  EXPECT_EQ(left.error->code(), ErrorCode::kCancelled);
  EXPECT_EQ(left.usage->prompt_tokens, 5);
  EXPECT_GT(left.usage->queue_s, 0);
  EXPECT_EQ(left.usage->prefill_s, 0);
  EXPECT_EQ(engine_->Snapshot().requests_queued, 1);

  first->Cancel();
  release.set_value();
  const Outcome cut = running->Wait();
  EXPECT_EQ(cut.error->code(), ErrorCode::kCancelled);
  EXPECT_EQ(cut.usage->completion_tokens, 1);
  EXPECT_GT(cut.usage->prefill_s, 0);
  EXPECT_GT(cut.usage->decode_s, 0);
  EXPECT_EQ(also_waiting->Wait().usage->completion_tokens, 5);
  first->Cancel();  // harmless
  EXPECT_EQ(running->Wait().events_after_the_last, 0);
  const EngineStats stats = engine_->Snapshot();
  EXPECT_EQ(stats.requests_total, 3);
  EXPECT_EQ(stats.requests_cancelled, 2);
}

TEST_F(LocalEngineTest, CancelsInTheMiddleOfALayer) {
  // One chunk. Attention of one layer takes many seconds, what comes before it a tenth of one: of
  // processor time, since neighbours on the machine take a share of any other.
  constexpr int64_t kTokens = 65536;
  Start(With({}, 8, kTokens, kTokens + 1));
  GenerationRequest request = Request(1);
  request.prompt_tokens.assign(kTokens, 5);
  const auto sink = std::make_shared<RecordingSink>();
  const double submitted_s = ProcessCpuSeconds();
  const auto handle = engine_->Submit(std::move(request), sink);
  while (ProcessCpuSeconds() < submitted_s + 1.5) {
    ASSERT_FALSE(sink->Ended());
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  const double cancelled_s = ProcessCpuSeconds();
  handle->Cancel();
  const Outcome outcome = sink->Wait();
  ASSERT_TRUE(outcome.error);
  EXPECT_EQ(outcome.error->code(), ErrorCode::kCancelled);
  EXPECT_LT(ProcessCpuSeconds(), cancelled_s + 2);
  EXPECT_EQ(Run(Request(3)).usage->completion_tokens, 3);
}

TEST_F(LocalEngineTest, PrefillIsPublishedChunkByChunk) {
  constexpr int64_t kTokens = 65536;  // takes many times as long as looking at it
  constexpr int64_t kChunk = 256;
  Start(With({}, 8, kChunk, kTokens + 1));
  GenerationRequest request = Request(1);
  request.prompt_tokens.assign(kTokens, 5);
  const auto sink = std::make_shared<RecordingSink>();
  const auto handle = engine_->Submit(std::move(request), sink);
  EngineStats stats;
  while (stats.prefill_tokens == 0) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    stats = engine_->Snapshot();
  }
  handle->Cancel();
  EXPECT_LT(stats.prefill_tokens, kTokens);
  EXPECT_EQ(stats.prefill_tokens % kChunk, 0);
  EXPECT_GT(stats.prefill_s, 0);
  EXPECT_GT(stats.recent_prefill_tok_s, 0);
  const Outcome outcome = sink->Wait();
  ASSERT_TRUE(outcome.error);
  EXPECT_EQ(outcome.usage->prompt_tokens, kTokens);
  EXPECT_EQ(outcome.usage->completion_tokens, 0);
  EXPECT_GE(outcome.usage->prefill_s, stats.prefill_s);
  EXPECT_EQ(outcome.usage->decode_s, 0);
  // A prompt of one chunk counts once.
  const EngineStats before = engine_->Snapshot();
  const Usage usage = *Run(Request(3)).usage;
  const EngineStats after = engine_->Snapshot();
  EXPECT_EQ(after.prefill_tokens - before.prefill_tokens, 5);
  EXPECT_NEAR(after.prefill_s - before.prefill_s, usage.prefill_s, 1e-9);
  EXPECT_GE(after.recent_prefill_tok_s, 5 / usage.prefill_s);
}

TEST_F(LocalEngineTest, CountersOfAnEngineThatRestsAreOfNow) {
  Run(Request(3));
  while (engine_->Snapshot().requests_active > 0) {
    std::this_thread::yield();
  }
  const double before_s = NowSeconds();
  EXPECT_GE(engine_->Snapshot().taken_at_s, before_s);
}

TEST_F(LocalEngineTest, OutOfMemorySaysHowMuchFits) {
  ASSERT_FALSE(Run(Request(20)).error);  // one block of 32 tokens
  // Room for one more: 2 layers, keys and values of 2 heads of 64 in BF16.
  const uint64_t block = 2 * 2 * 2 * 64 * 2 * 32;
  const uint64_t rest = kCeiling - budget_.TotalBytes() - block;
  budget_.Book("test", rest);
  const Outcome outcome = Run(Request(190));
  ASSERT_TRUE(outcome.error);
  EXPECT_EQ(outcome.error->code(), ErrorCode::kResourceLimit);
  EXPECT_THAT(outcome.error->what(), testing::HasSubstr("after 64 tokens of prompt and answer"));
  EXPECT_THAT(outcome.error->cure(), testing::HasSubstr("--memory-gb"));
  EXPECT_FALSE(Run(Request(50)).error) << "a shorter one still runs";
  budget_.Release("test", rest);
  EXPECT_FALSE(Run(Request(190)).error);
}

TEST_F(LocalEngineTest, ShutdownFinishesOrCancels) {
  const auto sink = std::make_shared<RecordingSink>();
  const auto handle = engine_->Submit(Request(10), sink);
  engine_->Shutdown(60);
  EXPECT_FALSE(sink->Wait().error);
  EXPECT_THROW(engine_->Submit(Request(1), sink), Error);

  Start(With({}));
  const auto cut = std::make_shared<RecordingSink>();
  const auto also_cut = std::make_shared<RecordingSink>();
  // Holds the first request in its first token until Shutdown has emptied the queue.
  std::promise<void> both_submitted;
  std::once_flag once;
  cut->on_delta = [&] {
    std::call_once(once, [&] {
      both_submitted.get_future().wait();
      while (engine_->Snapshot().requests_queued > 0) {
        std::this_thread::yield();
      }
    });
  };
  const auto one = engine_->Submit(Request(190), cut);
  const auto two = engine_->Submit(Request(190), also_cut);
  both_submitted.set_value();
  engine_->Shutdown(0);
  EXPECT_TRUE(cut->Ended() && also_cut->Ended());
  EXPECT_TRUE(cut->Wait().error);
  EXPECT_TRUE(also_cut->Wait().error);
}

}  // namespace
}  // namespace mach::engine
