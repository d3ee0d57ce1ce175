// The `usage` object of an answer. Values; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace mach::api {

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

// Not the engine's Usage, which is what one of its requests took.
struct UsageReport {
  int64_t prompt_tokens = 0;
  int64_t completion_tokens = 0;
  int64_t cached_tokens = 0;
  int64_t reasoning_tokens = 0;
  std::optional<Receipt> receipt;
};

void AppendUsage(std::string& out, const UsageReport& usage);

}  // namespace mach::api
