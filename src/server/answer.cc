#include "server/generation.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <utility>

#include "base/clock.h"
#include "base/log.h"

namespace mach::server {
namespace {

// Above this backlog new text waits in the inbox, where it takes less room than as chunks.
constexpr size_t kHighWaterBytes = 16 << 10;
// What a stream may hold back for a client that reads slowly.
constexpr size_t kMaxInboxBytes = 4 << 20;
// What leaves as one write: even where its JSON is several times as large, it stays below what the
// connection may have waiting.
constexpr size_t kWriteBytes = 32 << 10;
// What an event, a token with its logprob, and an alternative take beside their text; as JSON or
// in memory, which is about the same.
constexpr size_t kEventBytes = 96;
constexpr size_t kTokenBytes = 80;
constexpr size_t kAlternativeBytes = 56;

const char* FinishName(engine::FinishReason reason) {
  return reason == engine::FinishReason::kLength ? "length" : "stop";
}

}  // namespace

// The sink of one engine request: adds which prompt it belongs to.
class Generation::Part : public engine::GenerationSink {
 public:
  Part(std::shared_ptr<Generation> owner, int32_t first_choice)
      : owner_(std::move(owner)), first_choice_(first_choice) {}

  engine::Flow OnDelta(engine::Delta delta) override {
    const bool shows_special = owner_->options_.hides_special == nullptr;
    std::string text = decode::JoinPieces(delta.pieces, shows_special);
    if (text.empty() && delta.tokens.empty()) {
      return engine::Flow::kGoOn;
    }
    TextEvent event;
    event.choice = first_choice_ + delta.choice;
    event.text = std::move(text);
    event.token_count = CountNew(delta.choice, delta.generated_tokens);
    if (owner_->options_.logprobs) {
      event.tokens = std::move(delta.tokens);
    }
    owner_->Push(std::move(event));
    return engine::Flow::kGoOn;
  }
  void OnFinish(engine::Finish finish) override {
    const int32_t choice = first_choice_ + finish.choice;
    const int64_t count = CountNew(finish.choice, finish.generated_tokens);
    owner_->Push(FinishEvent{choice, count, std::move(finish)});
  }
  void OnDone(const engine::Usage& usage) override { owner_->Push(LastEvent{.usage = usage}); }
  void OnUsage(const engine::Usage& usage) override { usage_ = usage; }
  void OnError(const Error& error) override {
    owner_->Push(LastEvent{.usage = usage_,
                           .error = api::FromError(error),
                           .cancelled = error.code() == ErrorCode::kCancelled});
  }

 private:
  // How many of a choice's `generated` tokens no event has counted yet.
  int64_t CountNew(int32_t choice, int64_t generated) {
    const int64_t before = std::exchange(counted_[choice], generated);
    return generated - before;
  }

  const std::shared_ptr<Generation> owner_;
  const int32_t first_choice_;
  // Of the thread that events come on.
  std::map<int32_t, int64_t> counted_;  // tokens of each choice so far
  engine::Usage usage_;                 // of a request that is about to end in an error
};

Generation::Generation(std::shared_ptr<http::Exchange> exchange, GenerationOptions options,
                       Hooks hooks)
    : exchange_(std::move(exchange)),
      options_(std::move(options)),
      hooks_(std::move(hooks)),
      encoder_(options_.meta) {}

Generation::~Generation() = default;

void Generation::Submit(engine::Engine& engine, std::vector<engine::GenerationRequest> requests) {
  parts_running_ = requests.size();
  choices_.assign(requests.size() * static_cast<size_t>(options_.choices_per_prompt),
                  Choice{{}, api::LogprobText(options_.meta.kind)});
  for (const auto& request : requests) {
    usage_.prompt_tokens += static_cast<int64_t>(request.prompt_tokens.size());
  }
  record_.prompt_tokens = usage_.prompt_tokens;
  const auto self = shared_from_this();
  std::vector<engine::Submission> submissions;
  for (size_t i = 0; i < requests.size(); ++i) {
    auto& request = requests[i];
    request.id = options_.meta.id + (requests.size() > 1 ? "-" + std::to_string(i) : "");
    submissions.push_back(
        {std::move(request),
         std::make_shared<Part>(self, static_cast<int32_t>(i) * options_.choices_per_prompt)});
  }
  try {
    auto handles = engine.SubmitAll(std::move(submissions));
    bool cancelled = false;
    {
      const std::lock_guard lock(mutex_);
      handles_.assign(std::make_move_iterator(handles.begin()),
                      std::make_move_iterator(handles.end()));
      cancelled = cancelled_;  // by events that came meanwhile
    }
    if (cancelled) {
      CancelAll();
    }
  } catch (const Error& e) {
    parts_running_ = 0;
    exchange_->Post(
        [self, info = api::FromError(e), rejected = e.code() == ErrorCode::kUnavailable] {
          std::string none;
          self->Fail(info, /*cancelled=*/false, none);
          self->record_.rejected = rejected;
          self->begun_ = true;
          self->Drain();
        });
    return;
  }
  exchange_->Post([self] { self->Begin(); });
}

size_t Generation::SizeOf(const Event& event) {
  size_t bytes = kEventBytes;
  if (const auto* text = std::get_if<TextEvent>(&event)) {
    bytes += text->text.size();
    for (const engine::GeneratedToken& token : text->tokens) {
      bytes += kTokenBytes + token.bytes.size();
      for (const engine::TokenAlternative& alternative : token.top) {
        bytes += kAlternativeBytes + alternative.bytes.size();
      }
    }
  }
  return bytes;
}

void Generation::Push(Event event) {
  bool cancel = false;
  {
    const std::lock_guard lock(mutex_);
    if (cancelled_ && !std::holds_alternative<LastEvent>(event)) {
      return;
    }
    auto* text = std::get_if<TextEvent>(&event);
    auto* last = inbox_.empty() ? nullptr : std::get_if<TextEvent>(&inbox_.back());
    if (text != nullptr && last != nullptr && last->choice == text->choice && !options_.logprobs &&
        last->text.size() < kWriteBytes) {
      inbox_bytes_ += text->text.size();
      last->text += text->text;
      last->token_count += text->token_count;
    } else {
      inbox_bytes_ += SizeOf(event);
      inbox_.push_back(std::move(event));
    }
    if (options_.stream && inbox_bytes_ > kMaxInboxBytes && !cancelled_) {
      cancelled_ = true;
      cancel = true;
      std::erase_if(inbox_, [](const Event& e) { return !std::holds_alternative<LastEvent>(e); });
      inbox_.emplace_front(OverflowEvent{});
      inbox_bytes_ = inbox_.size() * kEventBytes;
    }
    if (!scheduled_) {
      scheduled_ = true;
    } else if (!cancel) {
      return;
    }
  }
  if (cancel) {
    CancelAll();
  }
  exchange_->Post([self = shared_from_this()] { self->Drain(); });
}

void Generation::CancelAll() {
  std::vector<std::shared_ptr<engine::GenerationHandle>> handles;
  {
    const std::lock_guard lock(mutex_);
    cancelled_ = true;
    handles = handles_;
  }
  // Not under the lock: cancelling a request that waits calls back into Push.
  for (const auto& handle : handles) {
    handle->Cancel();
  }
}

void Generation::Begin() {
  begun_ = true;
  if (exchange_->closed()) {
    ClientGone();
    return;
  }
  exchange_->OnClose([self = shared_from_this()] { self->ClientGone(); });
  if (options_.stream) {
    exchange_->OnDrained([self = shared_from_this()] { self->Drain(); });
    exchange_->StartStream(hooks_.stream_head(), /*event_stream=*/true);
    streaming_ = true;
    std::string out;
    if (options_.meta.kind == api::ResponseKind::kChat) {
      for (size_t i = 0; i < choices_.size(); ++i) {
        encoder_.Role(out, static_cast<int32_t>(i), RunningUsage());
      }
    }
    exchange_->Write(out);
  }
  Drain();
}

std::vector<Generation::Event> Generation::TakeEvents(bool* more) {
  std::vector<Event> events;
  const std::lock_guard lock(mutex_);
  size_t taken = 0;
  while (!inbox_.empty() && (!options_.stream || taken < kWriteBytes)) {
    const size_t bytes = SizeOf(inbox_.front());
    taken += bytes;
    inbox_bytes_ -= bytes;
    events.push_back(std::move(inbox_.front()));
    inbox_.pop_front();
  }
  *more = !inbox_.empty();
  scheduled_ = *more;
  return events;
}

void Generation::Drain() {
  if (!begun_ || ended_) {
    return;
  }
  if (streaming_ && !answered_ && exchange_->backlog_bytes() > kHighWaterBytes) {
    return;  // `scheduled_` stays set; the exchange calls again once it has room
  }
  bool more = false;
  std::vector<Event> events = TakeEvents(&more);
  std::string out;
  for (Event& event : events) {
    Handle(event, out);
  }
  if (!answered_) {
    exchange_->Write(out);
  } else if (parts_running_ == 0) {
    End();
  }
  if (more) {
    exchange_->Post([self = shared_from_this()] { self->Drain(); });
  }
}

void Generation::Handle(Event& event, std::string& out) {
  if (auto* last = std::get_if<LastEvent>(&event)) {
    OnLast(*last, out);
    return;
  }
  if (answered_) {
    return;
  }
  if (auto* text = std::get_if<TextEvent>(&event)) {
    OnText(*text, out);
  } else if (auto* finish = std::get_if<FinishEvent>(&event)) {
    usage_.completion_tokens += finish->token_count;
    Choice& choice = choices_[static_cast<size_t>(finish->choice)];
    choice.result.finish_reason = FinishName(finish->finish.reason);
    choice.result.stop_reason = std::move(finish->finish.stop);
    if (options_.stream) {
      encoder_.Finish(out, finish->choice, choice.result.finish_reason, choice.result.stop_reason,
                      RunningUsage());
    }
  } else {
    Fail(api::Internal("The client does not read the stream."), /*cancelled=*/true, out);
  }
}

void Generation::OnLast(LastEvent& event, std::string& out) {
  AddUsage(event.usage);
  --parts_running_;
  if (answered_) {
    return;
  }
  if (event.error) {
    CancelAll();
    Fail(*event.error, event.cancelled, out);
  } else if (parts_running_ == 0) {
    FinishAll(out);
  }
}

void Generation::AddUsage(const engine::Usage& part) {
  record_.prefilled_tokens += part.decode_s > 0 ? part.prompt_tokens : 0;
  record_.completion_tokens += part.completion_tokens;
  record_.cached_tokens += part.cached_tokens;
  record_.queue_s = std::max(record_.queue_s, part.queue_s);
  record_.prefill_s += part.prefill_s;
  record_.decode_s += part.decode_s;
  record_.experts += part.experts;
  record_.prefill_experts += part.prefill_experts;
}

void Generation::OnText(TextEvent& event, std::string& out) {
  if (!record_.first_token_s) {
    record_.first_token_s = NowSeconds() - options_.arrived_s;
  }
  usage_.completion_tokens += event.token_count;
  Choice& choice = choices_[static_cast<size_t>(event.choice)];
  AddLogprobs(choice, event.tokens);
  if (!options_.stream) {
    choice.result.text += event.text;
    return;
  }
  if (event.text.empty() && choice.logprobs.empty()) {
    return;
  }
  const std::string logprobs = choice.logprobs.empty() ? "" : choice.logprobs.Take();
  encoder_.Delta(out, event.choice, event.text, logprobs, RunningUsage());
}

void Generation::AddLogprobs(Choice& choice, const std::vector<engine::GeneratedToken>& tokens) {
  std::vector<api::AlternativeView> top;
  for (const engine::GeneratedToken& token : tokens) {
    top.clear();
    for (const engine::TokenAlternative& alternative : token.top) {
      top.push_back({alternative.bytes, alternative.logprob});
    }
    const bool hidden =
        options_.hides_special != nullptr && options_.hides_special->IsSpecial(token.token);
    choice.logprobs.Add(token.bytes, token.logprob, top, !hidden);
  }
}

const api::Usage* Generation::RunningUsage() const {
  return options_.continuous_usage ? &usage_ : nullptr;
}

void Generation::FinishAll(std::string& out) {
  usage_.completion_tokens = record_.completion_tokens;
  usage_.cached_tokens = record_.cached_tokens;
  if (options_.receipt) {
    const engine::ExpertUsage& prefill = record_.prefill_experts;
    usage_.receipt = api::Receipt{.bytes_read = record_.experts.bytes_read + prefill.bytes_read,
                                  .expert_hits = record_.experts.hits,
                                  .expert_misses = record_.experts.misses,
                                  .expert_prefill_hits = prefill.hits,
                                  .expert_prefill_misses = prefill.misses,
                                  .stall_seconds = record_.experts.stall_s + prefill.stall_s,
                                  .prefill_seconds = record_.prefill_s,
                                  .decode_seconds = record_.decode_s,
                                  .queue_seconds = record_.queue_s};
  }
  if (options_.stream) {
    if (options_.include_usage || options_.receipt) {
      encoder_.UsageChunk(out, usage_);
    }
    api::StreamEncoder::Done(out);
    exchange_->Write(out);
    exchange_->Finish();
  } else {
    std::vector<api::ChoiceResult> results;
    results.reserve(choices_.size());
    for (Choice& choice : choices_) {
      if (options_.logprobs) {
        choice.result.logprobs_json = choice.logprobs.Take();
      }
      results.push_back(std::move(choice.result));
    }
    http::Response response;
    response.body = api::EncodeResponse(options_.meta, results, usage_);
    hooks_.respond(*exchange_, std::move(response));
  }
  answered_ = true;
  status_ = 200;
}

void Generation::Fail(const api::ErrorInfo& info, bool cancelled, std::string& out) {
  status_ = info.status;
  if (streaming_) {
    status_ = 200;
    api::StreamEncoder::Error(out, info);
    api::StreamEncoder::Done(out);
    exchange_->Write(out);
    exchange_->Finish();
  } else {
    http::Response response;
    response.status = info.status;
    response.body = api::ErrorBody(info);
    if (info.retry_after_s > 0) {
      response.headers.emplace_back("Retry-After", std::to_string(info.retry_after_s));
    }
    hooks_.respond(*exchange_, std::move(response));
  }
  record_.cancelled = cancelled;
  record_.error = info;
  answered_ = true;
}

void Generation::ClientGone() {
  CancelAll();
  if (!answered_) {
    answered_ = true;
    status_ = 499;
    record_.cancelled = true;
  }
  Drain();
}

void Generation::End() {
  ended_ = true;
  record_.total_s = NowSeconds() - options_.arrived_s;
  hooks_.on_end(exchange_->request(), record_, status_);
  std::vector<std::shared_ptr<engine::GenerationHandle>> handles;
  {
    const std::lock_guard lock(mutex_);
    handles.swap(handles_);
  }
  // Destroyed here, outside the lock: a handle cancels its request, and the sink may be called.
}

}  // namespace mach::server
