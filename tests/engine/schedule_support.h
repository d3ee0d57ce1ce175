// Helpers of the random schedules: a scheduler that does any legal thing next, requests of all
// kinds, a drafter that is as often right as it is told, reads that fail on command, and a count of
// what really happened.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "decode/drafter.h"
#include "engine/engine.h"
#include "engine/scheduler.h"
#include "models/model.h"
#include "tests/support/faulty_reader.h"

namespace mach::engine {

using Random = std::mt19937_64;

// In [least, most].
inline int64_t Draw(Random& random, int64_t least, int64_t most) {
  return least + static_cast<int64_t>(random() % static_cast<uint64_t>(most - least + 1));
}

inline bool OneIn(Random& random, int64_t n) {
  return Draw(random, 1, n) == 1;
}

// What a run of schedules came to: one that never did what it is there for proves nothing. The
// inference thread's while the engine lives.
struct Happened {
  int64_t batches = 0;         // steps of several sequences that were committed
  int64_t between_layers = 0;  // of them, between two layers of a chunk of prefill
  int64_t failed_batches = 0;  // steps of several sequences that failed
  int64_t partly_kept = 0;     // steps of which some drafts were accepted and one was refused
};

// Notes the steps of a model.
class WatchedModel final : public models::Model {
 public:
  WatchedModel(std::unique_ptr<models::Model> model, Happened& happened)
      : model_(std::move(model)), happened_(happened) {}
  const models::ModelShape& shape() const override { return model_->shape(); }
  backend::Backend& backend() override { return model_->backend(); }
  std::unique_ptr<state::SequenceState> NewSequence() override { return model_->NewSequence(); }
  std::unique_ptr<models::StepRun> Begin(const models::StepSpec& spec) override {
    return std::make_unique<WatchedStep>(model_->Begin(spec), spec.batch.size(), *this);
  }
  uint64_t ActiveWeightBytes() const override { return model_->ActiveWeightBytes(); }

 private:
  class WatchedStep final : public models::StepRun {
   public:
    WatchedStep(std::unique_ptr<models::StepRun> step, size_t sequences, WatchedModel& model)
        : step_(std::move(step)), several_(sequences > 1), model_(model) {
      model_.open_.push_back(this);
    }
    WatchedStep(const WatchedStep&) = delete;
    WatchedStep& operator=(const WatchedStep&) = delete;
    ~WatchedStep() override { std::erase(model_.open_, this); }

    bool RunLayer() override {
      try {
        const bool ran = step_->RunLayer();
        layers_ += ran ? 1 : 0;
        return ran;
      } catch (const Error& error) {
        const bool failed = error.code() != ErrorCode::kCancelled;
        model_.happened_.failed_batches += several_ && failed ? 1 : 0;
        throw;
      }
    }
    backend::Tensor Finish() override {
      const backend::Tensor logits = step_->Finish();
      if (several_) {
        ++model_.happened_.batches;
        model_.happened_.between_layers +=
            std::any_of(model_.open_.begin(), model_.open_.end(),
                        [&](const WatchedStep* other) { return other->InTheMiddle(); })
                ? 1
                : 0;
      }
      return logits;
    }

   private:
    bool InTheMiddle() const { return layers_ > 0 && layers_ < model_.shape().layers; }

    const std::unique_ptr<models::StepRun> step_;
    const bool several_;
    WatchedModel& model_;
    int32_t layers_ = 0;  // that have run
  };

  const std::unique_ptr<models::Model> model_;
  Happened& happened_;
  std::vector<const WatchedStep*> open_;  // that have begun and not ended
};

// Any legal step, and what `disturb` does between two of them. The inference thread calls Next; a
// schedule is begun and opened while that thread has nothing to do.
class RandomScheduler {
 public:
  // Next waits until Open is called.
  void Begin(uint64_t seed, std::function<void(Random&)> disturb) {
    random_.seed(seed);
    disturb_ = std::move(disturb);
    opened_ = std::promise<void>();
    is_open_ = opened_.get_future();
  }
  void Open() { opened_.set_value(); }
  // Once all requests have ended: until `disturb`, which may have ended the last one, has returned.
  void End() { const std::lock_guard lock(mutex_); }

  Step Next(const EngineView& view) {
    if (is_open_.valid()) {
      is_open_.get();
    }
    const std::lock_guard lock(mutex_);
    disturb_(random_);
    std::vector<Step> steps;
    if (view.waiting > 0) {
      steps.emplace_back(AdmitStep{});
    }
    DecodeStep decode;
    for (size_t i = 0; i < view.active.size(); ++i) {
      const RequestView& request = view.active[i];
      if (request.prompt_left == 0 && request.sequences_left > 0) {
        steps.emplace_back(BeginStep{i});
      }
      if (view.chunk ? *view.chunk == i : request.prompt_left > 0) {
        const int32_t layers =
            OneIn(random_, 3) ? kAllLayers : static_cast<int32_t>(Draw(random_, 1, 2));
        steps.emplace_back(PrefillStep{i, layers});
      }
      for (int32_t s = 0; s < request.sequences_active; ++s) {
        decode.batch.push_back({i, static_cast<size_t>(s)});
      }
    }
    if (!decode.batch.empty()) {
      std::shuffle(decode.batch.begin(), decode.batch.end(), random_);
      if (OneIn(random_, 3)) {
        decode.batch.resize(
            static_cast<size_t>(Draw(random_, 1, static_cast<int64_t>(decode.batch.size()))));
      }
      steps.emplace_back(std::move(decode));
    }
    return steps[static_cast<size_t>(Draw(random_, 0, static_cast<int64_t>(steps.size()) - 1))];
  }

 private:
  std::mutex mutex_;
  Random random_;
  std::function<void(Random&)> disturb_;
  std::promise<void> opened_;
  std::future<void> is_open_;
};

// Proposes what the choice will say, each token with the given chance, else something.
class KnowingDrafter final : public decode::Drafter {
 public:
  KnowingDrafter(std::vector<int32_t> answer, size_t prompt_tokens, int64_t right_percent,
                 uint64_t seed, int32_t vocab_size, Happened& happened)
      : answer_(std::move(answer)),
        prompt_tokens_(prompt_tokens),
        right_percent_(right_percent),
        random_(seed),
        vocab_size_(vocab_size),
        happened_(happened) {}

  void Observe(std::span<const int32_t> tokens) override {
    seen_ += tokens.size();
    const size_t kept = tokens.size() - 1;
    if (kept > 0 && kept < offered_) {
      ++happened_.partly_kept;
    }
    offered_ = 0;
  }
  // Now and then more than is wanted, and what is no token.
  std::vector<int32_t> Propose(int64_t most) override {
    std::vector<int32_t> drafts(static_cast<size_t>(Draw(random_, 0, most + 1)));
    for (size_t i = 0; i < drafts.size(); ++i) {
      const size_t at = seen_ - prompt_tokens_ + i;
      const bool right = at < answer_.size() && Draw(random_, 1, 100) <= right_percent_;
      drafts[i] = right ? answer_[at] : static_cast<int32_t>(Draw(random_, -1, vocab_size_));
    }
    const auto end = std::find_if(drafts.begin(), drafts.end(),
                                  [&](int32_t draft) { return draft < 0 || draft >= vocab_size_; });
    offered_ = std::min(static_cast<size_t>(end - drafts.begin()), static_cast<size_t>(most));
    return drafts;
  }

 private:
  const std::vector<int32_t> answer_;
  const size_t prompt_tokens_;
  const int64_t right_percent_;
  Random random_;
  const int32_t vocab_size_;
  Happened& happened_;
  size_t seen_ = 0;
  size_t offered_ = 0;  // drafts that the step can have
};

// Makes the next record that is read unreadable, as often as it is told.
class ReadFaults {
 public:
  void Arm(int64_t failures) {
    const std::lock_guard lock(mutex_);
    left_ = failures;
    record_.reset();
  }
  std::unique_ptr<DirectReader> Open(const DirectReaderOptions& options) {
    return testing_support::InjectFaults(
        OpenDirectReader(options), [this](uint64_t, const ReadRequest& request) {
          const std::lock_guard lock(mutex_);
          const std::pair record(request.file, request.offset_bytes);
          if (left_ == 0 || (record_ && *record_ != record)) {
            return testing_support::ReadFault::kNone;
          }
          record_ = record;
          --left_;
          return testing_support::ReadFault::kFail;
        });
  }

 private:
  std::mutex mutex_;
  int64_t left_ = 0;
  std::optional<std::pair<int32_t, uint64_t>> record_;
};

// A request of any kind, small enough to run a thousand times.
inline GenerationRequest RandomRequest(Random& random, int32_t vocab_size) {
  GenerationRequest request;
  const auto token = [&] { return static_cast<int32_t>(Draw(random, 0, vocab_size - 1)); };
  for (int64_t left = Draw(random, 1, OneIn(random, 3) ? 70 : 20); left > 0; --left) {
    request.prompt_tokens.push_back(token());
  }
  decode::SamplingParams& sampling = request.sampling;
  sampling.temperature = OneIn(random, 3) ? 0.0F : 0.3F * static_cast<float>(Draw(random, 1, 4));
  sampling.seed = static_cast<int64_t>(random());
  sampling.top_k = OneIn(random, 3) ? static_cast<int32_t>(Draw(random, 1, 50)) : 0;
  sampling.top_p = OneIn(random, 3) ? 0.8F : 1.0F;
  sampling.min_p = OneIn(random, 5) ? 0.05F : 0.0F;
  sampling.presence_penalty = OneIn(random, 4) ? 0.7F : 0.0F;
  sampling.frequency_penalty = OneIn(random, 4) ? 0.3F : 0.0F;
  sampling.repetition_penalty = OneIn(random, 4) ? 1.2F : 1.0F;
  if (OneIn(random, 4)) {
    sampling.logit_bias = {{token(), 3.0F}, {token(), -5.0F}};
  }
  request.stop.max_tokens = Draw(random, 1, 14);
  request.stop.min_tokens = OneIn(random, 3) ? Draw(random, 1, request.stop.max_tokens) : 0;
  if (OneIn(random, 2)) {
    for (int i = 0; i < 12; ++i) {
      request.stop.token_ids.push_back(token());
    }
  }
  if (OneIn(random, 3)) {
    // Token i reads "<i>": each begins like many tokens and is seldom a whole one.
    request.stop.strings = {"<" + std::to_string(Draw(random, 1, 25)), "7><"};
    request.stop.include_stop_string = OneIn(random, 2);
  }
  request.stop.ignore_eos = OneIn(random, 2);
  request.choices = OneIn(random, 3) ? static_cast<int32_t>(Draw(random, 2, 3)) : 1;
  request.logprobs = true;
  request.top_logprobs = static_cast<int32_t>(Draw(random, 0, 3));
  return request;
}

}  // namespace mach::engine
