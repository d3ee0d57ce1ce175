#include "tests/server/fake_engine.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/clock.h"

namespace mach::testing {
namespace {

using engine::Delta;
using engine::Finish;
using engine::FinishReason;
using engine::GeneratedToken;

constexpr char kRecital[] =
    "The quick brown fox jumps over the lazy dog. Gr\xC3\xBC\xC3\x9F"
    "e aus K\xC3\xB6ln, \xE4\xBD\xA0\xE5\xA5\xBD! 1 2 3 4 5 6 7 8 9. \"quoted\" \\ back\tslash\n";

class ByteTokenizer : public text::Tokenizer {
 public:
  std::vector<int32_t> Encode(std::string_view text, bool add_special_tokens) const override {
    if (text.find("[[giveup]]") != std::string_view::npos) {
      throw Error(ErrorCode::kResourceLimit, "the regular expression gave up");
    }
    std::vector<int32_t> ids;
    if (add_special_tokens) {
      ids.push_back(kBosToken);
    }
    for (const char c : text) {
      ids.push_back(static_cast<uint8_t>(c));
    }
    if (text.find("[[foreign]]") != std::string_view::npos) {
      ids.push_back(kVocabSize);
    }
    return ids;
  }
  std::string Decode(std::span<const int32_t> ids, bool /*skip_special_tokens*/) const override {
    std::string out;
    for (const int32_t id : ids) {
      out += TokenBytes(id);
    }
    return out;
  }
  int32_t vocab_size() const override { return kVocabSize; }
  std::optional<int32_t> TokenToId(std::string_view token) const override {
    if (token == kEndText) {
      return kEosToken;
    }
    if (token == "</think>") {
      return kEosToken + 1;  // a token that is never said
    }
    return token.size() == 1 ? std::optional<int32_t>(static_cast<uint8_t>(token[0]))
                             : std::nullopt;
  }
  bool IsSpecial(int32_t id) const override { return id >= kBosToken; }
  std::string TokenBytes(int32_t id) const override {
    return id < kBosToken ? std::string(1, static_cast<char>(id)) : std::string();
  }
};

class PlainTemplate : public jinja::ChatTemplate {
 public:
  std::string Render(const nlohmann::ordered_json& variables, int64_t /*now*/) const override {
    std::string out;
    if (variables.contains("tools")) {
      for (const auto& tool : variables["tools"]) {
        out += "<tool>" + tool["function"]["name"].get<std::string>() + "\n";
      }
    }
    for (const auto& message : variables["messages"]) {
      const auto& content = message["content"].get_ref<const std::string&>();
      if (content == "[[raise]]") {
        throw Error(ErrorCode::kInvalidArgument, "roles must alternate");
      }
      out += "<" + message["role"].get<std::string>() + ">";
      out += message.value("reasoning_content", "") + content;
      out += message.contains("tool_calls") ? message["tool_calls"].dump() : "";
      out += "\n";
    }
    if (variables["add_generation_prompt"] != true) {
      return out;
    }
    out += "<assistant>";
    if (variables.contains("enable_thinking")) {
      out += variables["enable_thinking"] == true ? "<think>" : "<think></think>";
    }
    return out;
  }
};

// How many bytes at the end of `text` may be the start of a stop string.
size_t HeldBack(const std::string& text, const std::vector<std::string>& stops) {
  size_t held = 0;
  for (const std::string& stop : stops) {
    for (size_t n = std::min(stop.size() - 1, text.size()); n > held; --n) {
      if (text.compare(text.size() - n, n, stop, 0, n) == 0) {
        held = n;
        break;
      }
    }
  }
  return held;
}

bool EndsInsideCharacter(const std::string& text) {
  size_t i = text.size();
  int continuation = 0;
  while (i > 0 && (static_cast<uint8_t>(text[i - 1]) & 0xC0) == 0x80) {
    --i;
    ++continuation;
  }
  if (i == 0) {
    return false;
  }
  const auto lead = static_cast<uint8_t>(text[i - 1]);
  const int wanted = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : lead >= 0xC0 ? 1 : 0;
  return continuation < wanted;
}

GeneratedToken MakeToken(int32_t id, int top) {
  GeneratedToken token;
  token.token = id;
  token.logprob = -0.25F;
  token.bytes = id < kBosToken ? std::string(1, static_cast<char>(id)) : "";
  for (int i = 0; i < top; ++i) {
    token.top.push_back({id + i, -0.25F - static_cast<float>(i),
                         std::string(1, static_cast<char>((id + i) % 128))});
  }
  return token;
}

}  // namespace

struct FakeEngine::Job {
  engine::GenerationRequest request;
  std::shared_ptr<engine::GenerationSink> sink;
  std::atomic<bool> cancelled{false};
  double submitted_s = NowSeconds();
};

class FakeEngine::Handle : public engine::GenerationHandle {
 public:
  Handle(FakeEngine& engine, std::weak_ptr<Job> job) : engine_(engine), job_(std::move(job)) {}
  ~Handle() override { Handle::Cancel(); }
  void Cancel() override {
    if (const auto job = job_.lock()) {
      job->cancelled.store(true);
      engine_.changed_.notify_all();
    }
  }

 private:
  FakeEngine& engine_;
  std::weak_ptr<Job> job_;
};

FakeEngine::FakeEngine(const FakeOptions& options)
    : options_(options), thread_([this] { Loop(); }) {}

FakeEngine::~FakeEngine() {
  Shutdown(0);
  thread_.join();
}

engine::GenerationHandles FakeEngine::SubmitAll(std::vector<engine::Submission> submissions) {
  const auto room = static_cast<size_t>(options_.max_queue);
  if (submissions.size() > room) {
    throw Error(ErrorCode::kInvalidArgument, "more prompts than the queue has places");
  }
  const std::lock_guard lock(mutex_);
  if (stopping_) {
    throw Error(ErrorCode::kUnavailable, "the engine is stopping");
  }
  if (queue_.size() + submissions.size() > room) {
    throw Error(ErrorCode::kUnavailable, "the queue is full");
  }
  engine::GenerationHandles handles;
  for (engine::Submission& submission : submissions) {
    auto job = std::make_shared<Job>();
    last_request_ = submission.request;
    job->request = std::move(submission.request);
    job->sink = std::move(submission.sink);
    queue_.push_back(job);
    ++stats_.requests_total;
    handles.push_back(std::make_unique<Handle>(*this, job));
  }
  changed_.notify_all();
  return handles;
}

engine::EngineStats FakeEngine::Snapshot() const {
  const std::lock_guard lock(mutex_);
  engine::EngineStats stats = stats_;
  stats.requests_active = active_ != nullptr ? 1 : 0;
  stats.requests_queued = static_cast<int64_t>(queue_.size());
  stats.taken_at_s = NowSeconds();
  stats.accounted_bytes["weights"] = 1234;
  if (options_.streaming) {
    stats.experts = {.streaming = true,
                     .experts_resident = 6,
                     .capacity = 8,
                     .hits = 30,
                     .misses = 10,
                     .prefill_hits = 3,
                     .prefill_misses = 20,
                     .evictions = 4,
                     .bytes_read = 163840,
                     .read_seconds = 0.5,
                     .stall_seconds = 0.25,
                     .direct = !options_.buffered,
                     .io = "pread",
                     .policy = "lru",
                     .per_layer = {{.layer = 1,
                                    .resident = 6,
                                    .hits = 30,
                                    .misses = 10,
                                    .prefill_hits = 3,
                                    .prefill_misses = 20}}};
  }
  return stats;
}

void FakeEngine::Shutdown(double grace_s) {
  std::unique_lock lock(mutex_);
  stopping_ = true;
  changed_.notify_all();
  const auto idle = [this] { return queue_.empty() && active_ == nullptr; };
  if (!changed_.wait_for(lock, std::chrono::duration<double>(grace_s), idle)) {
    for (const auto& job : queue_) {
      job->cancelled.store(true);
    }
    if (active_ != nullptr) {
      active_->cancelled.store(true);
    }
    changed_.notify_all();
    changed_.wait(lock, idle);
  }
  quit_ = true;
  changed_.notify_all();
}

double FakeEngine::decode_s() const {
  const std::lock_guard lock(mutex_);
  return stats_.decode_s;
}

int64_t FakeEngine::decode_tokens() const {
  const std::lock_guard lock(mutex_);
  return stats_.decode_tokens;
}

engine::GenerationRequest FakeEngine::last_request() const {
  const std::lock_guard lock(mutex_);
  return last_request_;
}

void FakeEngine::DropCancelled() {
  std::unique_lock lock(mutex_);
  while (true) {
    const auto cancelled = std::find_if(queue_.begin(), queue_.end(),
                                        [](const auto& job) { return job->cancelled.load(); });
    if (cancelled == queue_.end()) {
      return;
    }
    const auto job = *cancelled;
    queue_.erase(cancelled);
    ++stats_.requests_cancelled;
    lock.unlock();
    job->sink->OnUsage({.queue_s = NowSeconds() - job->submitted_s});
    job->sink->OnError(Error(ErrorCode::kCancelled, "cancelled in the queue"));
    lock.lock();
    changed_.notify_all();
  }
}

void FakeEngine::Loop() {
  std::unique_lock lock(mutex_);
  while (true) {
    lock.unlock();
    DropCancelled();
    lock.lock();
    if (!queue_.empty()) {
      active_ = queue_.front();
      queue_.pop_front();
      const auto job = active_;
      lock.unlock();
      Run(*job);
      job->sink = nullptr;
      lock.lock();
      active_ = nullptr;
      changed_.notify_all();
      continue;
    }
    if (quit_) {
      return;
    }
    // Cancellations only set a flag, so they are looked for now and then.
    changed_.wait_for(lock, std::chrono::milliseconds(2));
  }
}

void FakeEngine::Run(Job& job) {
  const engine::GenerationRequest& request = job.request;
  const std::string prompt = ByteTokenizer().Decode(request.prompt_tokens, true);
  const auto says = [&](const char* word) { return prompt.find(word) != std::string::npos; };
  const double start_s = NowSeconds();
  double decode_start_s = 0;
  int64_t total = 0;
  const auto usage = [&] {
    engine::Usage cost = {.prompt_tokens = static_cast<int64_t>(request.prompt_tokens.size()),
                          .completion_tokens = total,
                          .queue_s = start_s - job.submitted_s,
                          .prefill_s = NowSeconds() - start_s};
    if (decode_start_s > 0) {
      cost.prefill_s = decode_start_s - start_s;
      cost.decode_s = NowSeconds() - decode_start_s;
    }
    if (options_.streaming) {
      cost.experts = {.hits = 30, .misses = 10, .bytes_read = 163840, .stall_s = 0.25};
      cost.prefill_experts = {.hits = 3, .misses = 20, .bytes_read = 327680, .stall_s = 0.5};
    }
    return cost;
  };
  const auto cancel = [&] {
    {
      const std::lock_guard lock(mutex_);
      ++stats_.requests_cancelled;
    }
    job.sink->OnUsage(usage());
    job.sink->OnError(Error(ErrorCode::kCancelled, "cancelled"));
  };
  const double prefill_s = says("[[prefill]]") || says("[[stuck]]") ? 60 : 0;
  while (NowSeconds() - start_s < prefill_s) {
    if (job.cancelled.load() && !says("[[stuck]]")) {
      return cancel();
    }
    DropCancelled();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  decode_start_s = NowSeconds();
  const double step_s = says("[[slow]]") ? 0.02 : options_.step_s;
  const int64_t eos_after =
      says("[[long]]") || request.stop.ignore_eos ? INT64_MAX : options_.eos_after_tokens;
  struct State {
    std::string text;
    size_t sent = 0;
    std::vector<GeneratedToken> waiting;
    int64_t tokens = 0;
    bool done = false;
  };
  std::vector<State> states(static_cast<size_t>(request.choices));
  size_t running = states.size();
  double next_s = decode_start_s;
  while (running > 0) {
    if (job.cancelled.load()) {
      return cancel();
    }
    DropCancelled();
    if ((says("[[fail]]") || says("[[disk]]") || says("[[memory]]")) && total >= 3) {
      {
        const std::lock_guard lock(mutex_);
        ++stats_.requests_failed;
      }
      job.sink->OnUsage(usage());
      return job.sink->OnError(
          says("[[disk]]")
              ? Error(ErrorCode::kIo, "cannot read layer_0001.bin, expert 3 at offset 49152")
          : says("[[memory]]") ? Error(ErrorCode::kResourceLimit, "there is memory for 64 tokens",
                                       "raise the server's --memory-gb")
                               : Error(ErrorCode::kInternal, "scripted failure"));
    }
    for (size_t c = 0; c < states.size(); ++c) {
      State& state = states[c];
      if (state.done) {
        continue;
      }
      const bool greedy = request.sampling.temperature == 0;
      const size_t offset =
          greedy ? 0 : (static_cast<size_t>(request.sampling.seed.value_or(0)) + c) * 4 % 40;
      const bool eos =
          state.tokens >= (options_.says.empty() ? std::max(eos_after, request.stop.min_tokens)
                                                 : static_cast<int64_t>(options_.says.size()));
      const std::string_view script =
          options_.says.empty() ? std::string_view(kRecital) : options_.says;
      const size_t place = options_.says.empty() ? offset : 0;
      const int32_t id =
          eos ? kEosToken
              : static_cast<uint8_t>(
                    script[(place + static_cast<size_t>(state.tokens)) % script.size()]);
      ++state.tokens;
      ++total;
      const bool stop_token =
          std::find(request.stop.token_ids.begin(), request.stop.token_ids.end(), id) !=
          request.stop.token_ids.end();
      Finish finish;
      finish.choice = static_cast<int32_t>(c);
      bool ended = eos || stop_token || state.tokens >= request.stop.max_tokens;
      finish.reason = eos || stop_token ? FinishReason::kStop : FinishReason::kLength;
      if (stop_token) {
        finish.stop = id;
      }
      if (!eos && !stop_token) {
        state.text += static_cast<char>(id);
        state.waiting.push_back(MakeToken(id, request.logprobs ? request.top_logprobs : 0));
      }
      for (const std::string& stop : request.stop.strings) {
        const size_t at = state.text.find(stop);
        if (at != std::string::npos) {
          state.text.resize(at + (request.stop.include_stop_string ? stop.size() : 0));
          finish.reason = FinishReason::kStop;
          finish.stop = stop;
          ended = true;
          break;
        }
      }
      const size_t held = ended ? 0 : HeldBack(state.text, request.stop.strings);
      if (ended || (!EndsInsideCharacter(state.text) && state.text.size() - held > state.sent)) {
        Delta delta;
        delta.choice = static_cast<int32_t>(c);
        const size_t end = std::max(state.sent, state.text.size() - held);
        std::string text =
            state.text.substr(std::min(state.sent, state.text.size()), end - state.sent);
        delta.generated_tokens = state.tokens;
        if (request.logprobs) {
          delta.tokens = std::move(state.waiting);
        }
        state.waiting.clear();
        state.sent = end;
        if (!text.empty()) {
          delta.pieces.push_back({std::move(text), std::nullopt, false});
        }
        if (!delta.pieces.empty() || !delta.tokens.empty()) {
          job.sink->OnDelta(std::move(delta));
        }
      }
      if (ended) {
        state.done = true;
        --running;
        finish.generated_tokens = state.tokens;
        job.sink->OnFinish(std::move(finish));
      }
    }
    if (!options_.flood && running > 0) {
      next_s = std::max(next_s + step_s, NowSeconds() - step_s);
      const double wait_s = next_s - NowSeconds();
      if (wait_s > 0) {
        std::this_thread::sleep_for(std::chrono::duration<double>(wait_s));
      }
    }
  }
  const engine::Usage cost = usage();
  {
    const std::lock_guard lock(mutex_);
    stats_.prefill_tokens += cost.prompt_tokens;
    stats_.prefill_s += cost.prefill_s;
    stats_.decode_tokens += total;
    stats_.decode_s += cost.decode_s;
  }
  job.sink->OnDone(cost);
}

std::unique_ptr<loading::ServedModel> MakeFakeModel(const FakeOptions& options) {
  auto model = std::make_unique<loading::ServedModel>();
  model->info.id = "fake";
  models::ArchInfo arch;
  arch.model_type = "llama";
  arch.swiglu_variant = "plain_swiglu";
  arch.model_module = "src/models/llama.cc";
  arch.kv_cache_kind = "standard";
  arch.specdec_kind = "none";
  arch.continuous_batching = "ok";
  model->info.arch = arch;
  model->info.max_context = options.max_context;
  model->info.request_bytes = options.request_bytes;
  model->budget = std::make_unique<MemoryBudget>();
  model->info.layers = 2;
  model->info.vocab_size = kVocabSize;
  if (options.streaming) {
    model->info.path = loading::ServingPath::kStreaming;
    model->info.experts = 4;
    model->info.experts_serving = {.streaming = true,
                                   .sidecar_present = true,
                                   .sidecar_valid = true,
                                   .transient_prefill = true,
                                   .grouped_prefill = true,
                                   .prefetch = true,
                                   .direct = !options.buffered,
                                   .allow_buffered = options.buffered,
                                   .io = "pread",
                                   .policy = "lru",
                                   .cache_bytes = 131072};
  }
  model->info.threads = 1;
  model->info.isa = "scalar";
  model->info.created_unix_s = UnixSeconds();
  model->tokenizer = std::make_unique<ByteTokenizer>();
  model->chat_formats = options.formats;
  model->end_tokens = {kEosToken};
  if (options.with_template) {
    model->chat_template = std::make_unique<PlainTemplate>();
  }
  model->engine = std::make_unique<FakeEngine>(options);
  return model;
}

}  // namespace mach::testing
