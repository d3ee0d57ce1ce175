// How a protocol writes an answer, whole or as server-sent events: one encoder for each request,
// chosen by its route, over one stream of events. Written as text rather than through a DOM because
// the chunk of a token is on the hot path. No sockets, no engine. One request's; one thread at a
// time.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "api/errors.h"
#include "api/usage.h"
#include "base/pieces.h"
#include "chat/output_parser.h"

namespace mach::api {

// What all parts of an answer share, and how it was asked for.
struct AnswerSpec {
  std::string id;  // "chatcmpl-…"
  int64_t created_unix_s = 0;
  std::string model;
  int32_t choices = 1;
  bool stream = false;
  bool logprobs = false;
  bool usage_at_end = false;   // of a stream, in an event of its own
  bool running_usage = false;  // of a stream, in every event
  // Under which names reasoning is shown.
  bool reasoning_content = true;
  bool reasoning = false;
  std::string request_id;  // of the HTTP request, for errors that name it
  std::string repeated;    // members of the request that its answer repeats: `,"name":value`…
};

struct AlternativeView {
  std::string_view bytes;
  float logprob = 0;
};

struct TokenView {
  std::string_view bytes;
  float logprob = 0;
  std::span<const AlternativeView> top;
  bool shown = true;  // false for what the text leaves out: a hidden special token
};

// More of a choice: what was found in its output (of completions, content only), and with logprobs
// the tokens that it is made of.
struct DeltaEvent {
  int32_t choice = 0;
  std::span<const chat::ChatDelta> deltas;
  std::span<const TokenView> tokens;
};

// The stop string or token that ended a choice; monostate = null.
using StopReason = std::variant<std::monostate, std::string, int32_t>;

struct ChoiceEnd {
  int32_t choice = 0;
  std::string_view finish_reason;  // "stop", "length", "tool_calls"
  StopReason stop_reason;
};

// Begin; Delta and EndChoice in the order of the engine's events, choices interleaved; End. A
// stream may end with Fail instead, at any time. Each appends to `out` what can leave now: of an
// answer that is not streamed everything comes with End, and what has gathered is moved there, not
// copied.
class AnswerEncoder {
 public:
  virtual ~AnswerEncoder() = default;

  // `usage` is what has been counted so far.
  virtual void Begin(Pieces& out, const UsageReport& usage) = 0;
  virtual void Delta(Pieces& out, const DeltaEvent& event, const UsageReport& usage) = 0;
  virtual void EndChoice(Pieces& out, ChoiceEnd end, const UsageReport& usage) = 0;
  virtual void End(Pieces& out, const UsageReport& usage) = 0;
  virtual void Fail(Pieces& out, const ErrorInfo& info) = 0;

  // What fills the silence of a stream, between any two of the others.
  virtual std::string Heartbeat() { return ": ping\n\n"; }

  // What waits for End.
  virtual uint64_t held_bytes() const = 0;
};

// The protocols: /v1/chat/completions, /v1/completions, /v1/messages and /v1/responses. The last
// two have one choice.
std::unique_ptr<AnswerEncoder> MakeChatEncoder(AnswerSpec spec);
std::unique_ptr<AnswerEncoder> MakeCompletionEncoder(AnswerSpec spec);
std::unique_ptr<AnswerEncoder> MakeMessagesEncoder(AnswerSpec spec);
std::unique_ptr<AnswerEncoder> MakeResponsesEncoder(AnswerSpec spec);

}  // namespace mach::api
