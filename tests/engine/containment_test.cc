// What goes wrong with one request ends with that request: its sink throws, its state cannot be cut
// back, its memory runs out, it is cancelled in company or while the engine goes away.
#include <atomic>
#include <future>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/engine/local_engine_fixture.h"

namespace mach::engine {
namespace {

class Containment : public LocalEngineTest {};

// Several requests at a time, one batch.
LocalEngineOptions Together() {
  return {.max_context = 200,
          .prefill_chunk = 16,
          .max_queue = 8,
          .limits = {.max_requests = 8, .max_batch = 8}};
}

// Throws at one kind of event.
class ThrowingSink final : public GenerationSink {
 public:
  enum class At { kDelta, kFinish, kDone, kUsage, kError };
  explicit ThrowingSink(At at) : at_(at) {}

  Flow OnDelta(Delta /*delta*/) override {
    ThrowIf(At::kDelta);
    return Flow::kGoOn;
  }
  void OnFinish(Finish /*finish*/) override { ThrowIf(At::kFinish); }
  void OnDone(const Usage& /*usage*/) override { ThrowIf(At::kDone); }
  void OnUsage(const Usage& /*usage*/) override { ThrowIf(At::kUsage); }
  void OnError(const Error& error) override {
    error_.set_value(error);
    ThrowIf(At::kError);
  }

  Error WaitForError() { return error_.get_future().get(); }

 private:
  void ThrowIf(At at) {
    if (at == at_) {
      throw std::runtime_error("the sink is broken");
    }
  }

  const At at_;
  std::promise<Error> error_;
};

TEST_F(Containment, WhatASinkThrowsFailsItsRequestAlone) {
  using At = ThrowingSink::At;
  const std::string want = Run(Request(8)).text.at(0);
  int64_t failed = 0;
  for (const At at : {At::kDelta, At::kFinish, At::kDone, At::kUsage, At::kError}) {
    SCOPED_TRACE(static_cast<int>(at));
    const auto sink = std::make_shared<ThrowingSink>(at);
    GenerationRequest request = Request(8);
    if (at == At::kUsage || at == At::kError) {
      // Fails by itself: its last events are OnUsage and OnError.
      for (int32_t token = 0; token < tokenizer_->vocab_size(); ++token) {
        request.stop.token_ids.push_back(token);
      }
      request.stop.min_tokens = 2;
    }
    const auto handle = engine_->Submit(std::move(request), sink);
    const Error error = sink->WaitForError();
    if (at != At::kUsage && at != At::kError) {
      EXPECT_EQ(error.code(), ErrorCode::kInternal);
      EXPECT_THAT(error.what(), testing::HasSubstr("the sink is broken"));
    }
    EXPECT_EQ(Run(Request(8)).text.at(0), want);
    EXPECT_EQ(engine_->Snapshot().requests_failed, ++failed);
  }
}

// A recurrent state that a dense model never looks at, and that cannot be cut back.
class StuckStore final : public backend::RecurrentStore {
 public:
  const backend::RecurrentShape& shape() const override { return shape_; }
  void Begin(int64_t /*tokens*/, bool /*record*/) override {}
  void Commit() override {}
  void Rollback(int64_t /*keep*/) override { Fail(); }
  bool CanRollback(int64_t /*keep*/) const override { return true; }
  void Reset() override { Fail(); }
  std::unique_ptr<backend::RecurrentSnapshot> Snapshot() override { return nullptr; }
  void Restore(const backend::RecurrentSnapshot& /*snapshot*/) override {}
  std::unique_ptr<backend::RecurrentStore> Fork() override {
    return std::make_unique<StuckStore>();
  }
  uint64_t bytes() const override { return 0; }

 private:
  static void Fail() { throw Error(ErrorCode::kInternal, "the state is stuck"); }

  backend::RecurrentShape shape_;
};

class StuckModel final : public models::Model {
 public:
  explicit StuckModel(std::unique_ptr<models::Model> model)
      : model_(std::move(model)), pool_(model_->backend().NewKvPool(model_->shape().kv)) {}
  const models::ModelShape& shape() const override { return model_->shape(); }
  backend::Backend& backend() override { return model_->backend(); }
  std::unique_ptr<state::SequenceState> NewSequence() override {
    return std::make_unique<state::SequenceState>(pool_->NewStore(),
                                                  std::make_unique<StuckStore>());
  }
  std::unique_ptr<models::StepRun> Begin(const models::StepSpec& spec) override {
    return model_->Begin(spec);
  }
  uint64_t ActiveWeightBytes() const override { return model_->ActiveWeightBytes(); }

 private:
  const std::unique_ptr<models::Model> model_;
  const std::shared_ptr<backend::KvPool> pool_;
};

class WrongDrafter final : public decode::Drafter {
 public:
  void Observe(std::span<const int32_t> /*tokens*/) override {}
  std::vector<int32_t> Propose(int64_t most) override {
    return std::vector<int32_t>(static_cast<size_t>(most), 1);
  }
};

TEST_F(Containment, AStateThatCannotBeEmptiedIsNotUsedAgain) {
  const std::string want = Run(Request(8)).text.at(0);
  Start({.max_context = 200, .prefill_chunk = 16, .max_queue = 8},
        [](auto model) { return std::make_unique<StuckModel>(std::move(model)); });
  EXPECT_EQ(Run(Request(8)).text.at(0), want);
  EXPECT_EQ(Run(Request(8)).text.at(0), want);
}

TEST_F(Containment, AStateThatCannotBeCutBackFailsItsRequest) {
  const std::string want = Run(Request(8)).text.at(0);
  Start({.max_context = 200,
         .prefill_chunk = 16,
         .max_queue = 8,
         .make_drafter =
             [](const GenerationRequest& request, int32_t) {
               return request.id == "drafted" ? std::make_unique<WrongDrafter>() : nullptr;
             },
         .most_drafts = 3},
        [](auto model) { return std::make_unique<StuckModel>(std::move(model)); });
  GenerationRequest drafted = Request(8);
  drafted.id = "drafted";
  const Outcome outcome = Run(drafted);
  ASSERT_TRUE(outcome.error);
  EXPECT_THAT(outcome.error->what(), testing::HasSubstr("the state is stuck"));
  EXPECT_EQ(Run(Request(8)).text.at(0), want);
}

TEST_F(Containment, AHandleMayCancelWhileTheEngineGoes) {
  for (int repetition = 0; repetition < 30; ++repetition) {
    Start({.max_context = 200, .prefill_chunk = 16, .max_queue = 8});
    std::vector<std::shared_ptr<RecordingSink>> sinks;
    GenerationHandles handles;
    for (int i = 0; i < 4; ++i) {
      sinks.push_back(std::make_shared<RecordingSink>());
      handles.push_back(engine_->Submit(Request(190), sinks.back()));
    }
    std::atomic<bool> go{false};
    std::thread canceller([&] {
      go.store(true);
      for (const auto& handle : handles) {
        handle->Cancel();
      }
    });
    while (!go.load()) {
    }
    engine_.reset();
    // No event comes after this.
    for (const auto& sink : sinks) {
      EXPECT_TRUE(sink->Ended());
    }
    canceller.join();
    handles.clear();
    for (const auto& sink : sinks) {
      EXPECT_EQ(sink->Wait().events_after_the_last, 0);
    }
  }
}

// A handle's cancel that runs late, in the event of a request that waited.
TEST_F(Containment, TheEngineStaysForTheLastEventsOfACancel) {
  const auto running = std::make_shared<RecordingSink>();
  const auto waiting = std::make_shared<RecordingSink>();
  const auto first = engine_->Submit(Request(190), running);
  auto second = engine_->Submit(Request(190), waiting);
  std::promise<void> in_event;
  waiting->on_usage = [&] {
    in_event.set_value();
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  };
  std::thread canceller([&] { second->Cancel(); });
  in_event.get_future().wait();
  engine_.reset();
  EXPECT_TRUE(waiting->Ended());
  canceller.join();
}

TEST_F(Containment, OneOfABatchIsCancelledAndTheOthersGoOn) {
  const std::string want = Run(Request(40)).text.at(0);
  Start(Together());
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  std::vector<Submission> submissions;
  for (int i = 0; i < 3; ++i) {
    sinks.push_back(std::make_shared<RecordingSink>());
    submissions.push_back({Request(40), sinks.back()});
  }
  std::promise<GenerationHandle*> victim;
  auto known = victim.get_future().share();
  std::atomic<int> deltas{0};
  sinks[0]->on_delta = [&] {
    if (++deltas == 20) {
      known.get()->Cancel();
    }
  };
  const GenerationHandles handles = engine_->SubmitAll(std::move(submissions));
  victim.set_value(handles[1].get());
  EXPECT_EQ(sinks[0]->Wait().text.at(0), want);
  EXPECT_EQ(sinks[2]->Wait().text.at(0), want);
  const Outcome cut = sinks[1]->Wait();
  ASSERT_TRUE(cut.error);
  EXPECT_EQ(cut.error->code(), ErrorCode::kCancelled);
  EXPECT_EQ(cut.text.at(0), want.substr(0, cut.text.at(0).size()));
  EXPECT_LT(cut.text.at(0).size(), want.size());
}

// Stops once before the second layer of a step of several sequences, until it is let go.
class PausedModel final : public models::Model {
 public:
  // What became of the step.
  struct Ended {
    std::vector<int64_t> before;  // lengths of the states
    std::vector<int64_t> after;
    int32_t layers = 0;  // that ran to their end
    bool finished = false;
  };

  explicit PausedModel(std::unique_ptr<models::Model> model) : model_(std::move(model)) {}
  const models::ModelShape& shape() const override { return model_->shape(); }
  backend::Backend& backend() override { return model_->backend(); }
  std::unique_ptr<state::SequenceState> NewSequence() override { return model_->NewSequence(); }
  std::unique_ptr<models::StepRun> Begin(const models::StepSpec& spec) override {
    auto step = model_->Begin(spec);
    if (spec.batch.size() < 2 || std::exchange(was_paused_, true)) {
      return step;
    }
    return std::make_unique<PausedStep>(std::move(step), spec, *this);
  }
  uint64_t ActiveWeightBytes() const override { return model_->ActiveWeightBytes(); }

  void WaitUntilPaused() { paused_.get_future().wait(); }
  void LetGo() { let_go_.set_value(); }
  Ended WaitUntilEnded() { return ended_.get_future().get(); }

 private:
  class PausedStep final : public models::StepRun {
   public:
    PausedStep(std::unique_ptr<models::StepRun> step, const models::StepSpec& spec,
               PausedModel& model)
        : step_(std::move(step)), model_(model) {
      for (const models::SequenceRows& rows : spec.batch) {
        states_.push_back(rows.state);
      }
      how_.before = Lengths();
    }
    PausedStep(const PausedStep&) = delete;
    PausedStep& operator=(const PausedStep&) = delete;
    ~PausedStep() override {
      how_.after = Lengths();
      model_.ended_.set_value(how_);
    }
    bool RunLayer() override {
      if (how_.layers == 1) {
        model_.paused_.set_value();
        model_.let_go_.get_future().wait();
      }
      const bool ran = step_->RunLayer();
      how_.layers += ran ? 1 : 0;
      return ran;
    }
    backend::Tensor Finish() override {
      const backend::Tensor logits = step_->Finish();
      how_.finished = true;
      return logits;
    }

   private:
    std::vector<int64_t> Lengths() const {
      std::vector<int64_t> lengths;
      for (const state::SequenceState* state : states_) {
        lengths.push_back(state->length());
      }
      return lengths;
    }

    const std::unique_ptr<models::StepRun> step_;
    PausedModel& model_;
    std::vector<const state::SequenceState*> states_;
    Ended how_;
  };

  const std::unique_ptr<models::Model> model_;
  bool was_paused_ = false;  // the inference thread's
  std::promise<void> paused_;
  std::promise<void> let_go_;
  std::promise<Ended> ended_;
};

class CancelledBatch : public Containment {
 protected:
  // Two requests in a step that is paused.
  void Begin() {
    Start(Together(), [&](auto model) {
      auto paused = std::make_unique<PausedModel>(std::move(model));
      model_ = paused.get();
      return paused;
    });
    handles_ = engine_->SubmitAll({{Request(40), sinks_[0]}, {Request(40), sinks_[1]}});
    model_->WaitUntilPaused();
  }

  PausedModel* model_ = nullptr;
  const std::vector<std::shared_ptr<RecordingSink>> sinks_ = {std::make_shared<RecordingSink>(),
                                                              std::make_shared<RecordingSink>()};
  GenerationHandles handles_;
};

TEST_F(CancelledBatch, StopsInTheMiddleAndNothingOfItRemains) {
  const std::string want = Run(Request(40)).text.at(0);
  Begin();
  const int64_t tokens = engine_->Snapshot().decode_tokens;
  handles_[0]->Cancel();
  handles_[1]->Cancel();
  model_->LetGo();
  const PausedModel::Ended ended = model_->WaitUntilEnded();
  EXPECT_EQ(ended.layers, 1);
  EXPECT_FALSE(ended.finished);
  EXPECT_EQ(ended.after, ended.before);
  for (const auto& sink : sinks_) {
    const Outcome cut = sink->Wait();
    ASSERT_TRUE(cut.error);
    EXPECT_EQ(cut.error->code(), ErrorCode::kCancelled);
    EXPECT_EQ(cut.text.at(0), want.substr(0, cut.text.at(0).size()));
    EXPECT_TRUE(cut.finish.empty());
    EXPECT_EQ(cut.events_after_the_last, 0);
  }
  EXPECT_EQ(Run(Request(40)).text.at(0), want);
  const EngineStats stats = engine_->Snapshot();
  EXPECT_EQ(stats.decode_tokens, tokens + 40);  // of the last request
  EXPECT_EQ(stats.requests_cancelled, 2);
  EXPECT_EQ(stats.requests_failed, 0);
}

TEST_F(CancelledBatch, GoesOnForWhoIsNotCancelled) {
  const std::string want = Run(Request(40)).text.at(0);
  Begin();
  const std::string shown = sinks_[0]->Peek().text[0];
  handles_[0]->Cancel();
  model_->LetGo();
  const PausedModel::Ended ended = model_->WaitUntilEnded();
  EXPECT_EQ(ended.layers, model_->shape().layers);
  EXPECT_TRUE(ended.finished);
  EXPECT_EQ(sinks_[1]->Wait().text.at(0), want);
  const Outcome cut = sinks_[0]->Wait();
  ASSERT_TRUE(cut.error);
  EXPECT_EQ(cut.error->code(), ErrorCode::kCancelled);
  EXPECT_EQ(cut.text.at(0), shown);
  EXPECT_EQ(Run(Request(40)).text.at(0), want);
}

TEST_F(Containment, WhoRunsOutOfMemoryFailsAloneAndIsToldOfWhat) {
  const std::string want = Run(Request(20)).text.at(0);
  Start(Together());
  // Both have a block of 32 tokens. The block that one gives back is the last that the other gets.
  const auto modest = std::make_shared<RecordingSink>();
  const auto greedy = std::make_shared<RecordingSink>();
  std::atomic<int> deltas{0};
  uint64_t rest = 0;
  modest->on_delta = [&] {
    if (++deltas == 6) {
      rest = kCeiling - budget_.TotalBytes();
      budget_.Book("test", rest);
    }
  };
  std::vector<Submission> submissions = {{Request(20), modest}, {Request(190), greedy}};
  const GenerationHandles handles = engine_->SubmitAll(std::move(submissions));
  EXPECT_EQ(modest->Wait().text.at(0), want);
  const Outcome outcome = greedy->Wait();
  ASSERT_TRUE(outcome.error);
  EXPECT_EQ(outcome.error->code(), ErrorCode::kResourceLimit);
  EXPECT_THAT(outcome.error->what(), testing::HasSubstr("after 64 tokens"));
  EXPECT_THAT(outcome.error->what(), testing::HasSubstr("kv needs"));
  EXPECT_THAT(outcome.error->cure(), testing::HasSubstr("--memory-gb"));
  EXPECT_THAT(outcome.error->cure(), testing::HasSubstr("'n'"));
  budget_.Release("test", rest);
  EXPECT_FALSE(Run(Request(190)).error);
}

}  // namespace
}  // namespace mach::engine
