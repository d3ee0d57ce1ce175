// The engine as the server sees it: requests in, events out, no tensors.
//
// One thread inside the engine owns all inference state. Submit, cancellation and Snapshot may be
// called from any thread. Events of one request arrive in order, on the engine's thread (the event
// of a request that is cancelled while it waits: on the cancelling one); a sink must not block and
// must not call back into the engine other than Cancel.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/error.h"
#include "decode/constraint.h"
#include "decode/sampling_params.h"
#include "decode/text_piece.h"
#include "experts/expert_store.h"

namespace mach::engine {

struct StopConditions {
  int64_t max_tokens = 0;            // >= 1; generated tokens of each choice
  int64_t min_tokens = 0;            // end tokens and stop tokens are masked before this many
  std::vector<std::string> strings;  // matched on the detokenised output, cut off it
  std::vector<int32_t> token_ids;
  // Stop strings that are one special token, which text never shows: that token ends the answer,
  // and the string is the reason.
  std::vector<std::pair<int32_t, std::string>> string_tokens;
  bool include_stop_string = false;  // keep the matched string in the output
  bool ignore_eos = false;
};

struct GenerationRequest {
  std::string id;                      // for logs; unique
  std::vector<int32_t> prompt_tokens;  // not empty; + max_tokens within ModelInfo::max_context
  decode::SamplingParams sampling;
  StopConditions stop;
  int32_t choices = 1;        // independent continuations; choice i samples with seed + i
  bool logprobs = false;      // fill Delta::tokens[i].logprob
  int32_t top_logprobs = 0;   // alternatives for each token, 0..20
  bool show_special = false;  // stop strings see special tokens too
  // Makes what a choice has to look like, one for each; empty = anything goes. On the engine's
  // thread.
  std::function<std::shared_ptr<decode::Constraint>()> make_constraint;
};

struct TokenAlternative {
  int32_t token = 0;
  float logprob = 0;  // natural logarithm; of the model's distribution before sampling filters
  std::string bytes;
};

struct GeneratedToken {
  int32_t token = 0;
  float logprob = 0;
  std::string bytes;
  std::vector<TokenAlternative> top;
};

// What became certain for one choice. Text is whole characters, never part of a stop string; each
// special token is a piece of its own, for the sink to show or not. A token whose text is held back
// comes with the delta that releases it.
struct Delta {
  int32_t choice = 0;
  std::vector<decode::TextPiece> pieces;
  std::vector<GeneratedToken> tokens;  // empty unless the request asked for logprobs
  int64_t generated_tokens = 0;        // of this choice so far
};

enum class FinishReason {
  kStop,
  kLength,
  kEnough,  // the sink said so
};

// A sink's answer to a delta: whether the choice goes on behind it.
enum class Flow { kGoOn, kStop };

struct Finish {
  int32_t choice = 0;
  FinishReason reason = FinishReason::kStop;
  // Of kStop: the stop string or stop token id; monostate for the model's own end token.
  std::variant<std::monostate, std::string, int32_t> stop;
  int64_t generated_tokens = 0;  // of this choice, its end token and hidden ones included
};

// What a stretch of work, such as a request's prefill, cost in experts.
struct ExpertCost {
  int64_t hits = 0;
  int64_t misses = 0;
  uint64_t bytes_read = 0;
  double stall_s = 0;  // waiting for records; part of the time it took

  // Of whatever asked, prefill or decoding: only one of them runs at a time.
  static ExpertCost Of(const experts::ExpertStats& stats) {
    return {stats.hits + stats.prefill_hits, stats.misses + stats.prefill_misses, stats.bytes_read,
            stats.stall_seconds};
  }
  ExpertCost& operator+=(const ExpertCost& other) {
    hits += other.hits;
    misses += other.misses;
    bytes_read += other.bytes_read;
    stall_s += other.stall_s;
    return *this;
  }
  // Of counters, what came after `before`.
  friend ExpertCost operator-(const ExpertCost& after, const ExpertCost& before) {
    return {after.hits - before.hits, after.misses - before.misses,
            after.bytes_read - before.bytes_read, after.stall_s - before.stall_s};
  }
};

// A request that did not run to its end has the tokens and times that it came to; 0 for what it did
// not begin.
//
// Times are what the client waited: they follow each other without a gap, and what the engine does
// for other requests meanwhile is part of them. Costs are shares: of a step of several sequences
// each request has what its rows are of all rows, in whole experts and bytes, so that over all
// requests they are the counters of the store, but for what it reads while nothing runs.
struct Usage {
  int64_t prompt_tokens = 0;
  int64_t completion_tokens = 0;  // all choices, end tokens included
  int64_t cached_tokens = 0;      // prompt tokens that were not prefilled again
  double queue_s = 0;             // until its first chunk of prefill begins
  double prefill_s = 0;           // from then until its prompt is prefilled
  double decode_s = 0;            // from then until its last token is chosen
  ExpertCost experts;             // of its decoding; zero for models without experts
  ExpertCost prefill_experts;     // of its prefill
};

// What a sink throws fails its request: it gets OnError then, also where OnDone threw.
class GenerationSink {
 public:
  virtual ~GenerationSink() = default;
  // kStop ends the choice with this delta, wherever the engine is by then: what it has computed
  // beyond it is neither shown nor counted.
  virtual Flow OnDelta(Delta delta) = 0;
  virtual void OnFinish(Finish finish) = 0;        // once for each choice
  virtual void OnDone(const Usage& usage) = 0;     // last event of a request that ran to its end
  virtual void OnUsage(const Usage& /*usage*/) {}  // just before OnError: what it cost until then
  virtual void OnError(const Error& error) = 0;  // last event otherwise; kCancelled after a cancel,
                                                 // kResourceLimit for want of memory
};

// Cancels its request when destroyed or told to; harmless after the last event, and at any time
// while the engine is destroyed or when it is gone. Thread-safe.
class GenerationHandle {
 public:
  virtual ~GenerationHandle() = default;
  virtual void Cancel() = 0;
};

using GenerationHandles = std::vector<std::unique_ptr<GenerationHandle>>;

struct Submission {
  GenerationRequest request;
  std::shared_ptr<GenerationSink> sink;
};

struct EngineStats {
  int64_t requests_total = 0;
  int64_t requests_active = 0;
  int64_t requests_queued = 0;
  int64_t requests_cancelled = 0;
  int64_t requests_failed = 0;
  // Published between steps: after each chunk of prefill and each token.
  int64_t prefill_tokens = 0;
  double prefill_s = 0;
  int64_t decode_tokens = 0;
  double decode_s = 0;
  double recent_prefill_tok_s = 0;  // of the last request that prefilled, as far as it has come
  double recent_decode_tok_s = 0;   // over the last seconds of decoding
  double taken_at_s = 0;            // NowSeconds() when these six were true: now, if nothing runs
  // As they are now, like the counts of requests.
  std::map<std::string, uint64_t> accounted_bytes;  // by owner
  std::optional<experts::ExpertStats> experts;      // none for dense models
};

class Engine {
 public:
  virtual ~Engine() = default;

  // Queues all requests or none. Throws kUnavailable if the queue has no room for them now or the
  // engine is stopping, kInvalidArgument if it never has, or one of them cannot be run. A sink
  // outlives its last event; events may begin before this returns.
  virtual GenerationHandles SubmitAll(std::vector<Submission> submissions) = 0;

  std::unique_ptr<GenerationHandle> Submit(GenerationRequest request,
                                           std::shared_ptr<GenerationSink> sink) {
    std::vector<Submission> one;
    one.push_back({std::move(request), std::move(sink)});
    return std::move(SubmitAll(std::move(one)).front());
  }

  // Answers at once during a generation.
  virtual EngineStats Snapshot() const = 0;
  // ExpertStore::Map; empty for dense models too.
  virtual std::vector<std::string> ExpertMap() const { return {}; }

  // Refuses new requests, lets running and queued ones finish for at most `grace_s`, then cancels.
  // No event comes after it has returned. Not to be called from a sink.
  virtual void Shutdown(double grace_s) = 0;
};

}  // namespace mach::engine
