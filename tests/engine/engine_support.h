// Helpers of the engine tests: a sink that records what a request got.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "engine/engine.h"

namespace mach::engine {

// Token i reads "<i>".
inline std::vector<std::string> Pieces(int32_t count) {
  std::vector<std::string> pieces;
  for (int32_t i = 0; i < count; ++i) {
    pieces.push_back("<" + std::to_string(i) + ">");
  }
  return pieces;
}

struct Outcome {
  std::map<int32_t, std::string> text;
  std::map<int32_t, std::vector<GeneratedToken>> tokens;
  std::map<int32_t, Finish> finish;
  std::optional<Usage> usage;  // of a request that failed or was cancelled too
  std::optional<Error> error;
  int events_after_the_last = 0;
};

class RecordingSink final : public GenerationSink {
 public:
  Flow OnDelta(Delta delta) override {
    Note([&](Outcome& outcome) {
      outcome.text[delta.choice] += decode::JoinPieces(delta.pieces, /*with_special=*/true);
      auto& tokens = outcome.tokens[delta.choice];
      tokens.insert(tokens.end(), delta.tokens.begin(), delta.tokens.end());
    });
    if (on_delta) {
      on_delta();
    }
    return Flow::kGoOn;
  }
  void OnFinish(Finish finish) override {
    Note([&](Outcome& outcome) { outcome.finish[finish.choice] = finish; });
  }
  void OnDone(const Usage& usage) override {
    Note([&](Outcome& outcome) { outcome.usage = usage; }, true);
  }
  void OnUsage(const Usage& usage) override {
    Note([&](Outcome& outcome) { outcome.usage = usage; });
    if (on_usage) {
      on_usage();
    }
  }
  void OnError(const Error& error) override {
    Note([&](Outcome& outcome) { outcome.error = error; }, true);
  }

  Outcome Wait() {
    std::unique_lock lock(mutex_);
    const bool ended = changed_.wait_for(lock, std::chrono::seconds(300), [&] { return ended_; });
    EXPECT_TRUE(ended) << "no last event";
    return outcome_;
  }

  // What has come by now.
  Outcome Peek() {
    const std::lock_guard lock(mutex_);
    return outcome_;
  }

  bool Ended() {
    const std::lock_guard lock(mutex_);
    return ended_;
  }

  std::function<void()> on_delta;  // set before Submit, as is the next
  std::function<void()> on_usage;

 private:
  template <typename Body>
  void Note(const Body& body, bool last = false) {
    const std::lock_guard lock(mutex_);
    outcome_.events_after_the_last += ended_ ? 1 : 0;
    body(outcome_);
    ended_ = ended_ || last;
    changed_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  Outcome outcome_;
  bool ended_ = false;
};

}  // namespace mach::engine
