#include "server/answer.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/clock.h"

namespace mach::server {
namespace {

// Above this backlog new text waits in the inbox, where it takes less room than as chunks.
constexpr size_t kHighWaterBytes = 16 << 10;

const char* FinishName(const ChoiceFinished& finished) {
  if (finished.finish.reason == engine::FinishReason::kLength) {
    return "length";
  }
  return finished.called ? "tool_calls" : "stop";
}

// The engine's tokens as the encoder sees them; refers to them.
class TokenViews {
 public:
  TokenViews(const std::vector<engine::GeneratedToken>& tokens,
             const text::Tokenizer* hides_special) {
    size_t count = 0;
    for (const engine::GeneratedToken& token : tokens) {
      count += token.top.size();
    }
    top_.reserve(count);  // the views point into it
    views_.reserve(tokens.size());
    for (const engine::GeneratedToken& token : tokens) {
      const size_t first = top_.size();
      for (const engine::TokenAlternative& alternative : token.top) {
        top_.push_back({alternative.bytes, alternative.logprob});
      }
      const bool hidden = hides_special != nullptr && hides_special->IsSpecial(token.token);
      views_.push_back({.bytes = token.bytes,
                        .logprob = token.logprob,
                        .top = std::span(top_).subspan(first),
                        .shown = !hidden});
    }
  }
  const std::vector<api::TokenView>& views() const { return views_; }

 private:
  std::vector<api::AlternativeView> top_;
  std::vector<api::TokenView> views_;
};

}  // namespace

Answer::Answer(std::shared_ptr<http::Exchange> exchange, AnswerOptions options,
               RequestMemory::Hold hold, Hooks hooks)
    : exchange_(std::move(exchange)),
      reference_(exchange_->request().id),
      options_(std::move(options)),
      hooks_(std::move(hooks)),
      inbox_(options_.stream, /*joins_output=*/!options_.logprobs, std::move(hold)) {}

Answer::~Answer() = default;

void Answer::Submit(engine::Engine& engine, std::vector<engine::GenerationRequest> requests) {
  parts_running_ = requests.size();
  for (const auto& request : requests) {
    usage_.prompt_tokens += static_cast<int64_t>(request.prompt_tokens.size());
  }
  record_.prompt_tokens = usage_.prompt_tokens;
  const auto self = shared_from_this();
  std::vector<engine::Submission> submissions;
  for (size_t i = 0; i < requests.size(); ++i) {
    auto& request = requests[i];
    request.id = options_.id + (requests.size() > 1 ? "-" + std::to_string(i) : "");
    PartOptions part{.reference = reference_,
                     .first_choice = static_cast<int32_t>(i) * options_.choices_per_prompt,
                     .choices = options_.choices_per_prompt,
                     .logprobs = options_.logprobs,
                     .shows_special = options_.hides_special == nullptr,
                     .reading = options_.reading};
    submissions.push_back(
        {std::move(request), std::make_shared<AnswerPart>(std::move(part), [self](AnswerEvent e) {
           self->Push(std::move(e));
         })});
  }
  try {
    auto handles = engine.SubmitAll(std::move(submissions));
    {
      const std::lock_guard lock(handles_mutex_);
      handles_.assign(std::make_move_iterator(handles.begin()),
                      std::make_move_iterator(handles.end()));
    }
    if (inbox_.cancelled()) {  // by events that came meanwhile
      CancelAll();
    }
  } catch (const Error& e) {
    parts_running_ = 0;
    exchange_->Post([self, info = api::FromRefusal(e, reference_),
                     rejected = e.code() == ErrorCode::kUnavailable] {
      Pieces none;
      self->Fail(info, /*cancelled=*/false, none);
      self->record_.rejected = rejected;
      self->begun_ = true;
      self->Drain();
    });
    return;
  }
  exchange_->Post([self] { self->Begin(); });
}

void Answer::Push(AnswerEvent event) {
  const EventInbox::Pushed pushed = inbox_.Push(std::move(event));
  if (pushed.overflow) {
    CancelAll();
  }
  if (pushed.wake) {
    exchange_->Post([self = shared_from_this()] { self->Drain(); });
  }
}

void Answer::CancelAll() {
  inbox_.Cancel();
  std::vector<std::shared_ptr<engine::GenerationHandle>> handles;
  {
    const std::lock_guard lock(handles_mutex_);
    handles = handles_;
  }
  // Not under the lock: cancelling a request that waits calls back into Push.
  for (const auto& handle : handles) {
    handle->Cancel();
  }
}

void Answer::Begin() {
  begun_ = true;
  if (exchange_->closed()) {
    ClientGone();
    return;
  }
  exchange_->OnClose([self = shared_from_this()] { self->ClientGone(); });
  if (options_.stream) {
    exchange_->OnDrained([self = shared_from_this()] { self->Drain(); });
    exchange_->StartStream(hooks_.stream_head(), [self = shared_from_this()] {
      return self->options_.encoder->Heartbeat();
    });
    streaming_ = true;
    Pieces out;
    options_.encoder->Begin(out, usage_);
    WriteStream(out);
  }
  Drain();
}

void Answer::Drain() {
  if (!begun_ || ended_) {
    return;
  }
  if (streaming_ && !answered_ && exchange_->backlog_bytes() > kHighWaterBytes) {
    return;  // the inbox stays scheduled; the exchange calls again once it has room
  }
  bool more = false;
  std::vector<AnswerEvent> events = inbox_.Take(&more);
  Pieces out;
  for (AnswerEvent& event : events) {
    Handle(event, out);
  }
  if (!answered_) {
    if (streaming_) {
      WriteStream(out);
    }
    const uint64_t bytes = options_.encoder->held_bytes();
    if ((!streaming_ || bytes > 0) && !inbox_.HoldEncoded(bytes)) {
      CancelAll();
      Fail(options_.memory->Refusal(bytes, "its answer", kSmallerAnswer), /*cancelled=*/false, out);
    }
  } else if (parts_running_ == 0) {
    End();
  }
  if (more) {
    exchange_->Post([self = shared_from_this()] { self->Drain(); });
  }
}

void Answer::Handle(AnswerEvent& event, Pieces& out) {
  if (auto* ended = std::get_if<RequestEnded>(&event)) {
    OnRequestEnded(*ended, out);
    return;
  }
  if (answered_) {
    return;
  }
  if (const auto* output = std::get_if<OutputArrived>(&event)) {
    OnOutput(*output, out);
  } else if (auto* finished = std::get_if<ChoiceFinished>(&event)) {
    OnChoiceFinished(*finished, out);
  } else {
    OnOverflow(std::get<Overflowed>(event), out);
  }
}

void Answer::OnOutput(const OutputArrived& output, Pieces& out) {
  usage_.completion_tokens += output.token_count;
  usage_.reasoning_tokens += output.reasoning_count;
  if (output.deltas.empty() && output.tokens.empty()) {
    return;
  }
  const double first_token_s = output.made_s - options_.arrived_s;
  record_.first_token_s = std::min(record_.first_token_s.value_or(first_token_s), first_token_s);
  const TokenViews tokens(output.tokens, options_.hides_special);
  options_.encoder->Delta(
      out, {.choice = output.choice, .deltas = output.deltas, .tokens = tokens.views()}, usage_);
}

void Answer::OnChoiceFinished(ChoiceFinished& finished, Pieces& out) {
  usage_.completion_tokens += finished.token_count;
  usage_.reasoning_tokens += finished.reasoning_count;
  options_.encoder->EndChoice(out,
                              {.choice = finished.choice,
                               .finish_reason = FinishName(finished),
                               .stop_reason = std::move(finished.finish.stop)},
                              usage_);
}

void Answer::OnRequestEnded(RequestEnded& ended, Pieces& out) {
  AddUsage(ended.usage);
  --parts_running_;
  if (answered_) {
    return;
  }
  if (ended.error) {
    CancelAll();
    Fail(*ended.error, ended.cancelled, out);
  } else if (parts_running_ == 0) {
    FinishAll(out);
  }
}

void Answer::OnOverflow(const Overflowed& overflowed, Pieces& out) {
  if (overflowed.slow_client || options_.memory == nullptr) {
    Fail(api::InvalidRequest("The client does not read the stream."), /*cancelled=*/true, out);
  } else if (options_.stream) {
    Fail(options_.memory->Refusal(overflowed.bytes, "what its client has not read", "Read faster"),
         /*cancelled=*/true, out);
  } else {
    Fail(options_.memory->Refusal(overflowed.bytes, "its answer", kSmallerAnswer),
         /*cancelled=*/false, out);
  }
}

void Answer::AddUsage(const engine::Usage& part) {
  record_.prefilled_tokens += part.decode_s > 0 ? part.prompt_tokens : 0;
  record_.completion_tokens += part.completion_tokens;
  record_.cached_tokens += part.cached_tokens;
  record_.queue_s = std::max(record_.queue_s, part.queue_s);
  record_.prefill_s += part.prefill_s;
  record_.decode_s += part.decode_s;
  record_.experts += part.experts;
  record_.prefill_experts += part.prefill_experts;
}

void Answer::WriteStream(Pieces& out) {
  while (!out.empty()) {
    exchange_->Write(out.TakeFront());
  }
}

void Answer::FinishAll(Pieces& out) {
  usage_.completion_tokens = record_.completion_tokens;
  usage_.cached_tokens = record_.cached_tokens;
  if (options_.receipt) {
    const engine::ExpertCost& prefill = record_.prefill_experts;
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
  options_.encoder->End(out, usage_);
  if (streaming_) {
    WriteStream(out);
    exchange_->Finish();
  } else {
    http::Response response;
    // The body is held until it has left.
    response.holds = std::make_shared<RequestMemory::Hold>(inbox_.TakeHold(out.size_bytes()));
    response.body = std::move(out);
    hooks_.respond(*exchange_, std::move(response));
  }
  answered_ = true;
  status_ = 200;
}

void Answer::Fail(const api::ErrorInfo& info, bool cancelled, Pieces& out) {
  status_ = info.status;
  if (streaming_) {
    status_ = 200;
    options_.encoder->Fail(out, info);
    WriteStream(out);
    exchange_->Finish();
  } else {
    hooks_.respond(*exchange_, hooks_.fail(info));
  }
  record_.cancelled = cancelled;
  record_.error = info;
  answered_ = true;
}

void Answer::ClientGone() {
  CancelAll();
  if (!answered_) {
    answered_ = true;
    status_ = 499;
    record_.cancelled = true;
  }
  Drain();
}

void Answer::End() {
  ended_ = true;
  record_.total_s = NowSeconds() - options_.arrived_s;
  hooks_.on_end(exchange_->request(), record_, status_);
  std::vector<std::shared_ptr<engine::GenerationHandle>> handles;
  {
    const std::lock_guard lock(handles_mutex_);
    handles.swap(handles_);
  }
  // Destroyed here, outside the lock: a handle cancels its request, and the sink may be called.
}

}  // namespace mach::server
