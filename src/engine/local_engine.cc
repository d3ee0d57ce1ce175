#include "engine/local_engine.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "base/clock.h"
#include "engine/expert_use.h"
#include "engine/generation.h"

namespace mach::engine {
namespace {

constexpr double kRecentWindowSeconds = 5.0;

struct Job {
  GenerationRequest request;
  std::shared_ptr<GenerationSink> sink;
  std::atomic<bool> cancelled{false};
  std::atomic<bool> ended{false};  // nothing is left to cancel; the engine may be gone
  double submitted_s = NowSeconds();
};

// Tokens per second over the last window, for /v1/stats. Guarded by the engine's mutex.
class RecentRate {
 public:
  void Add(int64_t tokens, double seconds) {
    const double now = NowSeconds();
    entries_.push_back({now, tokens, seconds});
    while (!entries_.empty() && entries_.front().at_s < now - kRecentWindowSeconds) {
      entries_.pop_front();
    }
  }
  double TokensPerSecond() const {
    int64_t tokens = 0;
    double seconds = 0;
    const double oldest_s = NowSeconds() - kRecentWindowSeconds;
    for (const Entry& entry : entries_) {
      if (entry.at_s >= oldest_s) {
        tokens += entry.tokens;
        seconds += entry.seconds;
      }
    }
    return seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
  }

 private:
  struct Entry {
    double at_s;
    int64_t tokens;
    double seconds;
  };
  std::deque<Entry> entries_;
};

class LocalEngine;

class Handle final : public GenerationHandle {
 public:
  Handle(LocalEngine& engine, std::shared_ptr<Job> job) : engine_(engine), job_(std::move(job)) {}
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  ~Handle() override { Handle::Cancel(); }
  void Cancel() override;

 private:
  LocalEngine& engine_;
  std::shared_ptr<Job> job_;
};

class LocalEngine final : public Engine {
 public:
  LocalEngine(std::unique_ptr<models::Model> model, experts::ExpertStore* experts,
              const text::Tokenizer& tokenizer, const MemoryBudget& budget,
              LocalEngineOptions options)
      : model_(std::move(model)),
        experts_(experts),
        tokenizer_(tokenizer),
        budget_(budget),
        options_(std::move(options)),
        state_(model_->NewSequence()),
        thread_([this] { Run(); }) {}
  LocalEngine(const LocalEngine&) = delete;
  LocalEngine& operator=(const LocalEngine&) = delete;
  ~LocalEngine() override {
    LocalEngine::Shutdown(0);
    thread_.join();
  }

  GenerationHandles SubmitAll(std::vector<Submission> submissions) override {
    const auto room = static_cast<size_t>(options_.max_queue);
    if (submissions.size() > room) {
      throw Error(ErrorCode::kInvalidArgument,
                  std::to_string(submissions.size()) +
                      " prompts are more than this server queues (" + std::to_string(room) + ")",
                  "send them as several requests, or raise the server's --max-queue");
    }
    std::vector<std::shared_ptr<Job>> jobs;
    for (Submission& submission : submissions) {
      Validate(submission.request);
      jobs.push_back(std::make_shared<Job>());
      jobs.back()->request = std::move(submission.request);
      jobs.back()->sink = std::move(submission.sink);
    }
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) {
        throw Error(ErrorCode::kUnavailable, "the server is shutting down");
      }
      if (jobs.size() > room - std::min(room, queue_.size())) {
        throw Error(ErrorCode::kUnavailable,
                    "the queue is full: " + std::to_string(queue_.size()) + " requests are waiting",
                    "try again later");
      }
      stats_.requests_total += static_cast<int64_t>(jobs.size());
      queue_.insert(queue_.end(), jobs.begin(), jobs.end());
    }
    wake_.notify_all();
    GenerationHandles handles;
    for (auto& job : jobs) {
      handles.push_back(std::make_unique<Handle>(*this, std::move(job)));
    }
    return handles;
  }

  EngineStats Snapshot() const override {
    const std::lock_guard lock(mutex_);
    EngineStats stats = stats_;
    stats.requests_queued = static_cast<int64_t>(queue_.size());
    stats.requests_active = running_ ? 1 : 0;
    stats.recent_decode_tok_s = recent_decode_.TokensPerSecond();
    stats.taken_at_s = running_ ? published_s_ : NowSeconds();
    stats.accounted_bytes = budget_.BytesByOwner();
    if (experts_ != nullptr) {
      stats.experts = experts_->Stats();
    }
    return stats;
  }

  void Shutdown(double grace_s) override {
    std::unique_lock lock(mutex_);
    stopping_ = true;
    wake_.notify_all();
    idle_.wait_for(lock, std::chrono::duration<double>(grace_s),
                   [&] { return queue_.empty() && !running_; });
    if (running_) {
      running_->cancelled.store(true);
    }
    std::deque<std::shared_ptr<Job>> waiting;
    waiting.swap(queue_);
    stats_.requests_cancelled += static_cast<int64_t>(waiting.size());
    // A cancelled step ends within a moment; afterwards no event comes any more.
    idle_.wait(lock, [&] { return !running_; });
    lock.unlock();
    for (const auto& job : waiting) {
      EndWaiting(*job, Error(ErrorCode::kUnavailable, "the server is shutting down"));
    }
  }

  // A running job stops within its step; a waiting one leaves the queue at once.
  void CancelJob(const std::shared_ptr<Job>& job) {
    if (job->cancelled.exchange(true)) {
      return;
    }
    {
      const std::lock_guard lock(mutex_);
      const auto it = std::find(queue_.begin(), queue_.end(), job);
      if (it == queue_.end()) {
        return;
      }
      queue_.erase(it);
      ++stats_.requests_cancelled;
    }
    EndWaiting(*job, Error(ErrorCode::kCancelled, "the request was cancelled"));
  }

 private:
  // How a request ends that has left the queue and never ran.
  static void EndWaiting(Job& job, const Error& error) {
    job.ended.store(true);
    job.sink->OnUsage(UsageAfterQueue(job));
    job.sink->OnError(error);
  }

  static Usage UsageAfterQueue(const Job& job) {
    return {.prompt_tokens = static_cast<int64_t>(job.request.prompt_tokens.size()),
            .queue_s = NowSeconds() - job.submitted_s};
  }

  void Validate(const GenerationRequest& request) const {
    const auto prompt = static_cast<int64_t>(request.prompt_tokens.size());
    if (prompt == 0) {
      throw Error(ErrorCode::kInvalidArgument, "the prompt is empty");
    }
    if (request.stop.max_tokens < 1 || request.choices < 1) {
      throw Error(ErrorCode::kInvalidArgument, "max_tokens and choices must be at least 1");
    }
    if (prompt > options_.max_context || request.stop.max_tokens > options_.max_context - prompt) {
      throw Error(ErrorCode::kInvalidArgument,
                  "prompt (" + std::to_string(prompt) + " tokens) and max_tokens (" +
                      std::to_string(request.stop.max_tokens) + ") exceed the context of " +
                      std::to_string(options_.max_context) + " tokens");
    }
    for (const int32_t token : request.prompt_tokens) {
      if (token < 0 || token >= model_->shape().vocab_size) {
        throw Error(ErrorCode::kInvalidArgument, "prompt token " + std::to_string(token) +
                                                     " is not in the vocabulary of " +
                                                     std::to_string(model_->shape().vocab_size));
      }
    }
  }

  void Run() {
    while (true) {
      std::shared_ptr<Job> job;
      {
        std::unique_lock lock(mutex_);
        running_.reset();
        idle_.notify_all();
        wake_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
        if (queue_.empty()) {
          break;
        }
        job = queue_.front();
        queue_.pop_front();
        running_ = job;
        published_s_ = NowSeconds();
      }
      RunGuarded(*job);
    }
    if (experts_ != nullptr) {
      experts_->SaveHeat();
    }
  }

  ExpertUsage ExpertNumbers() const {
    return experts_ != nullptr ? ExpertUsage::Of(experts_->Stats()) : ExpertUsage{};
  }

  // Says how long a request may be instead: trying this one again would not help.
  Error OutOfMemory(const Error& error) {
    const backend::KvShape& kv = state_->kv().shape();
    const uint64_t token_bytes = 2 * static_cast<uint64_t>(kv.layers) *
                                 static_cast<uint64_t>(kv.kv_heads) *
                                 static_cast<uint64_t>(kv.head_dim) * DTypeBytes(kv.dtype);
    const uint64_t tokens = token_bytes > 0 ? state_->kv().bytes() / token_bytes : 0;
    return {ErrorCode::kResourceLimit,
            "there is memory for " + std::to_string(tokens) +
                " tokens of prompt and answer, and this request needs more: " + error.what(),
            "shorten the conversation or 'max_tokens', or raise the server's --memory-gb"};
  }

  // Whatever goes wrong with one request, the engine goes on with the next.
  void RunGuarded(Job& job) {
    Usage usage = UsageAfterQueue(job);
    std::optional<Error> failure;
    try {
      RunJob(job, usage);
    } catch (const Error& error) {
      failure = error.code() == ErrorCode::kResourceLimit ? OutOfMemory(error) : error;
    } catch (const std::exception& error) {
      failure = Error(ErrorCode::kInternal, error.what());
    }
    state_->Truncate(0);
    job.ended.store(true);  // before the last event, after which the engine may go
    if (!failure) {
      job.sink->OnDone(usage);
      return;
    }
    const bool cancelled = failure->code() == ErrorCode::kCancelled;
    {
      const std::lock_guard lock(mutex_);
      ++(cancelled ? stats_.requests_cancelled : stats_.requests_failed);
    }
    job.sink->OnUsage(usage);
    job.sink->OnError(*failure);
  }

  // Runs `body` and says what it cost, also where it throws.
  template <typename Body>
  void Measure(double& seconds, ExpertUsage& experts, const Body& body) const {
    const ExpertUsage before = ExpertNumbers();
    const Stopwatch watch;
    const auto measured = [&] {
      seconds = watch.ElapsedSeconds();
      experts = ExpertNumbers() - before;
    };
    try {
      body();
    } catch (...) {
      measured();
      throw;
    }
    measured();
  }

  void RunJob(Job& job, Usage& usage) {
    std::vector<float> prompt_logits;
    Measure(usage.prefill_s, usage.prefill_experts, [&] { prompt_logits = Prefill(job); });
    Measure(usage.decode_s, usage.experts, [&] { Decode(job, prompt_logits, usage); });
  }

  void Decode(Job& job, const std::vector<float>& prompt_logits, Usage& usage) {
    const GenerationRequest& request = job.request;
    const int64_t seed = request.sampling.seed.value_or(decode::FreshSeed());
    std::optional<state::SequenceSnapshot> after_prompt;
    if (request.choices > 1) {
      after_prompt = state_->Snapshot();
    }
    for (int32_t choice = 0; choice < request.choices; ++choice) {
      if (choice > 0) {
        state_->Restore(*after_prompt);
      }
      const auto choice_seed =
          static_cast<int64_t>(static_cast<uint64_t>(seed) + static_cast<uint64_t>(choice));
      Generation generation(request, choice, choice_seed, tokenizer_, options_.end_tokens);
      RunChoice(job, prompt_logits, generation, usage);
    }
  }

  // Runs the prompt in chunks and returns the logits after its last token.
  std::vector<float> Prefill(Job& job) {
    const std::vector<int32_t>& prompt = job.request.prompt_tokens;
    const auto total = static_cast<int64_t>(prompt.size());
    std::vector<float> logits;
    const Stopwatch whole;
    for (int64_t begin = 0; begin < total; begin += options_.prefill_chunk) {
      const Stopwatch watch;
      const int64_t count = std::min(options_.prefill_chunk, total - begin);
      const std::span<const int32_t> tokens(prompt.data() + begin, static_cast<size_t>(count));
      const int64_t next = std::min(options_.prefill_chunk, total - begin - count);
      Forward(job, tokens, ExpertUseOfChunk(count, next), next == 0 ? &logits : nullptr);
      PublishPrefill(count, watch.ElapsedSeconds(),
                     static_cast<double>(begin + count) / whole.ElapsedSeconds());
    }
    return logits;
  }

  void RunChoice(Job& job, const std::vector<float>& prompt_logits, Generation& generation,
                 Usage& usage) {
    std::vector<float> logits = prompt_logits;
    while (true) {
      const Stopwatch watch;
      const std::optional<int32_t> token = generation.Step(logits, *job.sink);
      ++usage.completion_tokens;
      if (!token) {
        PublishDecode(1, watch.ElapsedSeconds());
        return;
      }
      Forward(job, std::span(&*token, 1), backend::ExpertUse::kDecode, &logits);
      PublishDecode(1, watch.ElapsedSeconds());
    }
  }

  // One forward of the live sequence; copies the last row's logits if they are wanted.
  void Forward(Job& job, std::span<const int32_t> tokens, backend::ExpertUse use,
               std::vector<float>* logits) {
    state_->Prepare(static_cast<int64_t>(tokens.size()), /*record=*/false);
    const models::SequenceRows rows{
        .state = state_.get(), .tokens = tokens, .logit_rows = logits != nullptr ? 1 : 0};
    const backend::StepScope scope(model_->backend());
    const backend::Tensor out =
        model_->Forward({.batch = std::span(&rows, 1), .use = use, .cancel = &job.cancelled});
    if (logits != nullptr) {
      const std::span<const float> values = model_->backend().Read(out);
      logits->assign(values.begin(), values.end());
    }
  }

  // `tok_s`: of this prompt so far.
  void PublishPrefill(int64_t tokens, double seconds, double tok_s) {
    const std::lock_guard lock(mutex_);
    stats_.prefill_tokens += tokens;
    stats_.prefill_s += seconds;
    stats_.recent_prefill_tok_s = tok_s;
    published_s_ = NowSeconds();
  }

  void PublishDecode(int64_t tokens, double seconds) {
    const std::lock_guard lock(mutex_);
    stats_.decode_tokens += tokens;
    stats_.decode_s += seconds;
    recent_decode_.Add(tokens, seconds);
    published_s_ = NowSeconds();
  }

  const std::unique_ptr<models::Model> model_;
  experts::ExpertStore* const experts_;  // null for dense models
  const text::Tokenizer& tokenizer_;
  const MemoryBudget& budget_;
  const LocalEngineOptions options_;
  const std::unique_ptr<state::SequenceState> state_;

  mutable std::mutex mutex_;
  std::condition_variable wake_;  // the inference thread waits for work
  std::condition_variable idle_;  // Shutdown waits for the end of work
  std::deque<std::shared_ptr<Job>> queue_;
  std::shared_ptr<Job> running_;
  bool stopping_ = false;
  EngineStats stats_;
  RecentRate recent_decode_;
  double published_s_ = NowSeconds();

  std::thread thread_;  // last: it uses everything above
};

void Handle::Cancel() {
  if (!job_->ended.load()) {
    engine_.CancelJob(job_);
  }
}

}  // namespace

std::unique_ptr<Engine> MakeLocalEngine(std::unique_ptr<models::Model> model,
                                        experts::ExpertStore* experts,
                                        const text::Tokenizer& tokenizer,
                                        const MemoryBudget& budget, LocalEngineOptions options) {
  return std::make_unique<LocalEngine>(std::move(model), experts, tokenizer, budget,
                                       std::move(options));
}

}  // namespace mach::engine
