#include "engine/local_engine.h"

#include <algorithm>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "engine/contain.h"
#include "engine/cost_meter.h"
#include "engine/decode_batch.h"
#include "engine/mailbox.h"
#include "engine/prefill_chunk.h"
#include "engine/request.h"

namespace mach::engine {
namespace {

using RequestPtr = std::shared_ptr<Request>;

class Handle final : public GenerationHandle {
 public:
  Handle(std::shared_ptr<Mailbox> mailbox, RequestPtr request)
      : mailbox_(std::move(mailbox)), request_(std::move(request)) {}
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  ~Handle() override { Handle::Cancel(); }
  void Cancel() override { mailbox_->Cancel(request_); }

 private:
  const std::shared_ptr<Mailbox> mailbox_;
  const RequestPtr request_;
};

// Which memory is short, and what helps: trying again would not.
Error OutOfMemory(const Request& request, const Error& error) {
  int64_t tokens = request.prompt ? request.prompt->length() : 0;
  for (const auto& sequence : request.sequences) {
    tokens = std::max(tokens, sequence->state().length());
  }
  return {ErrorCode::kResourceLimit,
          "memory ran out after " + std::to_string(tokens) +
              " tokens of prompt and answer: " + error.what(),
          "shorten the conversation, lower 'max_tokens' or 'n', or raise the server's --memory-gb"};
}

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
        mailbox_(std::make_shared<Mailbox>(options_.max_queue)),
        meter_(experts),
        spare_(model_->NewSequence()),
        thread_([this] { Run(); }) {}
  LocalEngine(const LocalEngine&) = delete;
  LocalEngine& operator=(const LocalEngine&) = delete;
  ~LocalEngine() override {
    LocalEngine::Shutdown(0);
    thread_.join();
  }

  GenerationHandles SubmitAll(std::vector<Submission> submissions) override {
    std::vector<RequestPtr> requests;
    for (Submission& submission : submissions) {
      Validate(submission.request);
      requests.push_back(
          std::make_shared<Request>(std::move(submission.request), std::move(submission.sink)));
    }
    GenerationHandles handles;
    handles.reserve(requests.size());
    for (const RequestPtr& request : requests) {
      handles.push_back(std::make_unique<Handle>(mailbox_, request));
    }
    mailbox_->Submit(requests);
    return handles;
  }

  EngineStats Snapshot() const override {
    EngineStats stats = mailbox_->Snapshot();
    stats.accounted_bytes = budget_.BytesByOwner();
    if (experts_ != nullptr) {
      stats.experts = experts_->Stats();
    }
    return stats;
  }

  std::vector<std::string> ExpertMap() const override {
    return experts_ != nullptr ? experts_->Map() : std::vector<std::string>();
  }

  void Shutdown(double grace_s) override { mailbox_->Shutdown(grace_s); }

 private:
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
    while (!active_.empty() || mailbox_->Wait()) {
      if (const auto error = Try([&] { RunStep(); })) {
        Contain("ending the requests that ran", [&] { FailAll(*error); });
      }
    }
    if (experts_ != nullptr) {
      Contain("saving the heat map", [&] { experts_->SaveHeat(); });
    }
  }

  void RunStep() {
    EndCancelled();
    const int64_t waiting = mailbox_->waiting();
    if (waiting == 0 && active_.empty()) {
      return;
    }
    const Step step = ChooseStep(waiting);
    if (std::holds_alternative<AdmitStep>(step)) {
      Admit();
    } else if (const auto* begin = std::get_if<BeginStep>(&step)) {
      BeginSequence(RequestPtr(active_.at(begin->request)));
    } else if (const auto* prefill = std::get_if<PrefillStep>(&step)) {
      Prefill(RequestPtr(active_.at(prefill->request)), prefill->layers);
    } else {
      Decode(std::get<DecodeStep>(step));
    }
  }

  Step ChooseStep(int64_t waiting) const {
    std::vector<RequestView> active;
    std::optional<size_t> chunk;
    for (const RequestPtr& request : active_) {
      if (chunk_ && chunk_->request() == request) {
        chunk = active.size();
      }
      active.push_back({.prompt_left = request->prompt_left(),
                        .sequences_left = request->sequences_left(),
                        .sequences_active = static_cast<int32_t>(request->sequences.size())});
    }
    const EngineView view{.waiting = waiting,
                          .active = active,
                          .chunk = chunk,
                          .decode_is_due = decode_is_due_,
                          .layer_s = layer_s_};
    return options_.scheduler ? options_.scheduler(view) : NextStep(view, options_.limits);
  }

  void Admit() {
    const RequestPtr request = mailbox_->Admit();
    if (!request) {
      return;  // cancelled meanwhile
    }
    if (active_.empty()) {
      meter_.Lap();  // nobody's
    }
    active_.push_back(request);
    EndIfFailed(request,
                Try([&] { request->prompt = spare_ ? std::move(spare_) : model_->NewSequence(); }));
  }

  // The chunk that is under way goes first, whoever is asked for.
  void Prefill(const RequestPtr& asked_for, int32_t layers) {
    const RequestPtr request = chunk_ ? chunk_->request() : asked_for;
    bool whole = false;
    const auto failure = Try([&] {
      if (!chunk_) {
        chunk_.emplace(*model_, request, options_.prefill_chunk);
        chunk_s_ = 0;
      }
      whole = chunk_->Run(layers);
    });
    const Cost cost = meter_.Lap();
    ChargePrefill(*request, cost);
    decode_is_due_ = true;
    if (failure) {
      End(request, failure);
      return;
    }
    chunk_s_ += cost.seconds();
    layer_s_ = chunk_s_ / std::max(1, chunk_->layers_run());
    if (whole) {
      const auto done = static_cast<double>(request->prompt->length());
      mailbox_->PublishPrefill(chunk_->tokens(), chunk_s_, done / request->prefill_work_s);
      chunk_.reset();
    }
  }

  static void ChargePrefill(Request& request, const Cost& cost) {
    if (request.prefill_work_s == 0) {
      request.prefill_begin_s = std::max(cost.begin_s, request.submitted_s);
      request.usage.queue_s = request.prefill_begin_s - request.submitted_s;
    }
    request.prefill_end_s = cost.end_s;
    request.prefill_work_s += cost.seconds();
    request.usage.prefill_s = cost.end_s - request.prefill_begin_s;
    request.usage.prefill_experts += cost.experts;
  }

  // The first token of a choice follows from the prompt's logits, without a step.
  void BeginSequence(const RequestPtr& request) {
    const auto failure = Try([&] {
      request
          ->BeginSequence(tokenizer_, options_.end_tokens,
                          options_.make_drafter
                              ? options_.make_drafter(request->asked, request->begun)
                              : nullptr)
          .Verify(request->prompt_logits);
    });
    ChargeDecoding({request}, {1});
    EndIfFailed(request, failure);
    EndIfDone(request);
  }

  void Decode(const DecodeStep& step) {
    std::vector<DecodeBatch::Member> members;
    for (const DecodeStep::Member& member : step.batch) {
      const RequestPtr& request = active_.at(member.request);
      members.push_back({.request = request,
                         .sequence = request->sequences.at(member.sequence).get(),
                         .failure = {}});
    }
    DecodeBatch batch(*model_, *mailbox_, std::move(members), options_.most_drafts);
    batch.Run();
    decode_is_due_ = false;
    std::vector<RequestPtr> requests;
    std::vector<int64_t> rows;
    for (const DecodeBatch::Member& member : batch.members()) {
      requests.push_back(member.request);
      rows.push_back(member.rows);
    }
    ChargeDecoding(requests, rows);
    for (const DecodeBatch::Member& member : batch.members()) {
      EndIfFailed(member.request, member.failure);
    }
    for (const RequestPtr& request : requests) {
      EndIfDone(request);
    }
  }

  // Whose sequences took tokens, with how many rows, and what that cost. A request with several
  // sequences is there several times.
  void ChargeDecoding(const std::vector<RequestPtr>& requests, const std::vector<int64_t>& rows) {
    const Cost cost = meter_.Lap();
    const std::vector<ExpertCost> shares = Shares(cost.experts, rows);
    int64_t tokens = 0;
    for (size_t i = 0; i < requests.size(); ++i) {
      Request& request = *requests[i];
      request.usage.decode_s = cost.end_s - request.prefill_end_s;
      request.usage.experts += shares[i];
      tokens += request.CountTokens();
    }
    if (tokens > 0) {
      mailbox_->PublishDecode(tokens, cost.seconds());
    }
  }

  void EndCancelled() {
    const Error error(ErrorCode::kCancelled, "the request was cancelled");
    for (const RequestPtr& request : std::vector(active_)) {
      if (request->cancelled.load()) {
        End(request, error);
      }
    }
  }

  void FailAll(const Error& error) {
    for (const RequestPtr& request : std::vector(active_)) {
      End(request, error);
    }
  }

  void EndIfFailed(const RequestPtr& request, const std::optional<Error>& failure) {
    if (failure) {
      End(request, failure);
    }
  }

  void EndIfDone(const RequestPtr& request) {
    for (auto& state : request->TakeEnded()) {
      Recycle(std::move(state));
    }
    if (request->done()) {
      End(request, std::nullopt);
    }
  }

  // Whatever the request still holds is free before its last event; afterwards it does not run.
  void End(const RequestPtr& request, std::optional<Error> failure) {
    if (std::erase(active_, request) == 0) {
      return;  // it has ended
    }
    if (failure && failure->code() == ErrorCode::kResourceLimit) {
      failure = OutOfMemory(*request, *failure);
    }
    if (chunk_ && chunk_->request() == request) {
      chunk_.reset();
    }
    Release(*request);
    if (request->prefill_work_s == 0) {
      request->usage.queue_s = NowSeconds() - request->submitted_s;
    }
    if (!failure) {
      failure = request->SendDone();
    }
    if (failure) {
      mailbox_->CountFailure(failure->code() == ErrorCode::kCancelled);
      request->SendError(*failure);
    }
    mailbox_->Retire(request);
  }

  void Release(Request& request) {
    for (const auto& sequence : request.sequences) {
      Recycle(sequence->TakeState());
    }
    request.sequences.clear();
    Recycle(std::move(request.prompt));
    request.prompt_logits = {};
  }

  // Keeps one state for the next request: large ones cost time to make.
  void Recycle(std::unique_ptr<state::SequenceState> state) {
    if (state && !spare_) {
      Contain("emptying a sequence", [&] {
        state->Truncate(0);
        spare_ = std::move(state);
      });
    }
  }

  const std::unique_ptr<models::Model> model_;
  experts::ExpertStore* const experts_;
  const text::Tokenizer& tokenizer_;
  const MemoryBudget& budget_;
  const LocalEngineOptions options_;
  const std::shared_ptr<Mailbox> mailbox_;

  // The inference thread's.
  CostMeter meter_;
  std::unique_ptr<state::SequenceState> spare_;  // empty, or none
  std::vector<RequestPtr> active_;               // in the order they were admitted
  std::optional<PrefillChunk> chunk_;            // under way
  double chunk_s_ = 0;                           // that it has taken
  double layer_s_ = 0;                           // of a layer of it, or of the last one
  bool decode_is_due_ = false;                   // prefill has run since the last step of decoding

  std::thread thread_;  // last: it uses everything above
};

}  // namespace

std::unique_ptr<Engine> MakeLocalEngine(std::unique_ptr<models::Model> model,
                                        experts::ExpertStore* experts,
                                        const text::Tokenizer& tokenizer,
                                        const MemoryBudget& budget, LocalEngineOptions options) {
  return std::make_unique<LocalEngine>(std::move(model), experts, tokenizer, budget,
                                       std::move(options));
}

}  // namespace mach::engine
