// Responses of the generation endpoints as JSON text, whole and as server-sent events. Written as
// text rather than through a DOM because the chunk of a token is on the hot path. No sockets.
// Values; a StreamEncoder or LogprobText belongs to one request and one thread at a time.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "api/errors.h"

namespace mach::api {

enum class ResponseKind { kChat, kText };  // /v1/chat/completions, /v1/completions

// What all chunks of a response share.
struct ResponseMeta {
  ResponseKind kind = ResponseKind::kChat;
  std::string id;  // "chatcmpl-…" or "cmpl-…"
  int64_t created_unix_s = 0;
  std::string model;
};

// What an answer cost: `usage.mach`, on request.
struct Receipt {
  uint64_t bytes_read = 0;  // of experts, from disk
  int64_t expert_hits = 0;  // while decoding: how well the bank served
  int64_t expert_misses = 0;
  int64_t expert_prefill_hits = 0;
  int64_t expert_prefill_misses = 0;
  double stall_seconds = 0;  // waiting for experts; part of prefill and decode
  double prefill_seconds = 0;
  double decode_seconds = 0;
  double queue_seconds = 0;
};

struct Usage {
  int64_t prompt_tokens = 0;
  int64_t completion_tokens = 0;
  int64_t cached_tokens = 0;
  int64_t reasoning_tokens = 0;
  std::optional<Receipt> receipt;
};

// The stop string or token that ended a choice; monostate = null.
using StopReason = std::variant<std::monostate, std::string, int32_t>;

struct AlternativeView {
  std::string_view bytes;
  float logprob = 0;
};

// Collects the logprobs of one choice and gives them out as the JSON of its endpoint: chat's
// {"content":[…]} or the legacy object of parallel arrays.
class LogprobText {
 public:
  explicit LogprobText(ResponseKind kind) : kind_(kind) {}

  // `shown` is false for a token that the text leaves out: a hidden special one.
  void Add(std::string_view bytes, float logprob, std::span<const AlternativeView> top,
           bool shown = true);
  bool empty() const { return tokens_.empty(); }
  // The object for all tokens since the last call. Legacy text offsets go on counting.
  std::string Take();

 private:
  ResponseKind kind_;
  std::string tokens_;  // chat: whole entries; legacy: the array `tokens`
  std::string logprobs_;
  std::string tops_;
  std::string offsets_;
  int64_t offset_chars_ = 0;
};

struct ChoiceResult {
  std::string text;
  std::string finish_reason;  // "stop", "length"
  StopReason stop_reason;
  std::string logprobs_json;  // empty = null
};

// The body of a response that is not streamed. Choice i is choices[i].
std::string EncodeResponse(const ResponseMeta& meta, std::span<const ChoiceResult> choices,
                           const Usage& usage);

// Server-sent events; every member appends to `out`. `usage` is the running usage of
// continuous_usage_stats, null without it.
class StreamEncoder {
 public:
  explicit StreamEncoder(const ResponseMeta& meta);

  void Role(std::string& out, int32_t choice, const Usage* usage) const;  // chat only
  void Delta(std::string& out, int32_t choice, std::string_view text,
             std::string_view logprobs_json, const Usage* usage) const;
  void Finish(std::string& out, int32_t choice, std::string_view finish_reason,
              const StopReason& stop_reason, const Usage* usage) const;
  void UsageChunk(std::string& out, const Usage& usage) const;
  static void Error(std::string& out, const ErrorInfo& info);
  static void Done(std::string& out);

 private:
  void Open(std::string& out, int32_t choice) const;
  static void Close(std::string& out, const Usage* usage);

  ResponseKind kind_;
  std::string prefix_;  // from "data: {" to the opening of `choices`
};

}  // namespace mach::api
