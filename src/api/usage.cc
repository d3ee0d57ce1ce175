#include "api/usage.h"

#include "base/json_string.h"

namespace mach::api {
namespace {

void AppendReceipt(std::string& out, const Receipt& receipt, int64_t cached_tokens) {
  const int64_t asked = receipt.expert_hits + receipt.expert_misses;
  out += "{\"bytes_read\":" + std::to_string(receipt.bytes_read);
  out += ",\"expert_hit_rate\":";
  if (asked > 0) {
    AppendJsonNumber(out, static_cast<float>(receipt.expert_hits) / static_cast<float>(asked));
  } else {
    out += "null";
  }
  const auto count = [&out](const char* key, int64_t value) {
    out += std::string(",\"") + key + "\":";
    out += std::to_string(value);
  };
  count("expert_hits", receipt.expert_hits);
  count("expert_misses", receipt.expert_misses);
  count("expert_prefill_hits", receipt.expert_prefill_hits);
  count("expert_prefill_misses", receipt.expert_prefill_misses);
  const auto seconds = [&out](const char* key, double value) {
    out += std::string(",\"") + key + "\":";
    AppendJsonNumber(out, static_cast<float>(value));
  };
  seconds("stall_seconds", receipt.stall_seconds);
  seconds("prefill_seconds", receipt.prefill_seconds);
  seconds("decode_seconds", receipt.decode_seconds);
  seconds("queue_seconds", receipt.queue_seconds);
  count("cached_tokens", cached_tokens);
  out += '}';
}

}  // namespace

void AppendUsage(std::string& out, const UsageReport& usage) {
  out += "{\"prompt_tokens\":";
  out += std::to_string(usage.prompt_tokens);
  out += ",\"completion_tokens\":";
  out += std::to_string(usage.completion_tokens);
  out += ",\"total_tokens\":";
  out += std::to_string(usage.prompt_tokens + usage.completion_tokens);
  out += ",\"prompt_tokens_details\":{\"cached_tokens\":";
  out += std::to_string(usage.cached_tokens);
  out += "},\"completion_tokens_details\":{\"reasoning_tokens\":";
  out += std::to_string(usage.reasoning_tokens);
  out += '}';
  if (usage.receipt) {
    out += ",\"mach\":";
    AppendReceipt(out, *usage.receipt, usage.cached_tokens);
  }
  out += '}';
}

}  // namespace mach::api
