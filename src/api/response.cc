#include "api/response.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/json_string.h"
#include "text/unicode.h"

namespace mach::api {
namespace {

constexpr float kLogprobFloor = -9999.0F;

void AppendInt(std::string& out, int64_t value) {
  out += std::to_string(value);
}

void AppendLogprob(std::string& out, float logprob) {
  AppendJsonNumber(out, std::isnan(logprob) ? kLogprobFloor : std::max(logprob, kLogprobFloor));
}

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
    AppendInt(out, value);
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

void AppendUsage(std::string& out, const Usage& usage) {
  out += "{\"prompt_tokens\":";
  AppendInt(out, usage.prompt_tokens);
  out += ",\"completion_tokens\":";
  AppendInt(out, usage.completion_tokens);
  out += ",\"total_tokens\":";
  AppendInt(out, usage.prompt_tokens + usage.completion_tokens);
  out += ",\"prompt_tokens_details\":{\"cached_tokens\":";
  AppendInt(out, usage.cached_tokens);
  out += "},\"completion_tokens_details\":{\"reasoning_tokens\":";
  AppendInt(out, usage.reasoning_tokens);
  out += '}';
  if (usage.receipt) {
    out += ",\"mach\":";
    AppendReceipt(out, *usage.receipt, usage.cached_tokens);
  }
  out += '}';
}

void AppendStopReason(std::string& out, const StopReason& reason) {
  if (const auto* text = std::get_if<std::string>(&reason)) {
    AppendJsonString(out, *text);
  } else if (const auto* token = std::get_if<int32_t>(&reason)) {
    AppendInt(out, *token);
  } else {
    out += "null";
  }
}

// "token", "logprob" and "bytes" of an entry of chat logprobs, without its closing brace.
void AppendChatToken(std::string& out, std::string_view bytes, float logprob) {
  out += "{\"token\":";
  AppendJsonString(out, bytes);
  out += ",\"logprob\":";
  AppendLogprob(out, logprob);
  out += ",\"bytes\":[";
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (i > 0) {
      out += ',';
    }
    AppendInt(out, static_cast<uint8_t>(bytes[i]));
  }
  out += ']';
}

int64_t CountCharacters(std::string_view utf8) {
  return std::count_if(utf8.begin(), utf8.end(),
                       [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; });
}

// A token as text; as OpenAI has it where it is only part of a character: "bytes:\\xf0\\x9f".
std::string LegacyToken(std::string_view bytes) {
  if (text::ValidUtf8Prefix(bytes) == bytes.size()) {
    return std::string(bytes);
  }
  constexpr char kHex[] = "0123456789abcdef";
  std::string out = "bytes:";
  for (const char c : bytes) {
    const auto byte = static_cast<uint8_t>(c);
    out += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
  }
  return out;
}

// An object, so tokens of the same text share an entry, the likeliest's. The sampled token is in it
// even where it is not among the likeliest.
void AppendLegacyTop(std::string& out, std::span<const AlternativeView> top,
                     const AlternativeView& sampled) {
  std::vector<std::string> names;
  out += '{';
  const auto add = [&](std::string name, float logprob) {
    if (std::find(names.begin(), names.end(), name) != names.end()) {
      return;
    }
    out += names.empty() ? "" : ",";
    AppendJsonString(out, name);
    out += ':';
    AppendLogprob(out, logprob);
    names.push_back(std::move(name));
  };
  for (const AlternativeView& alternative : top) {
    add(LegacyToken(alternative.bytes), alternative.logprob);
  }
  add(std::string(sampled.bytes), sampled.logprob);
  out += '}';
}

void AppendMeta(std::string& out, const ResponseMeta& meta, std::string_view object) {
  out += "{\"id\":";
  AppendJsonString(out, meta.id);
  out += ",\"object\":\"";
  out += object;
  out += "\",\"created\":";
  AppendInt(out, meta.created_unix_s);
  out += ",\"model\":";
  AppendJsonString(out, meta.model);
}

}  // namespace

void LogprobText::Add(std::string_view bytes, float logprob, std::span<const AlternativeView> top,
                      bool shown) {
  const char* separator = tokens_.empty() ? "" : ",";
  tokens_ += separator;
  if (kind_ == ResponseKind::kChat) {
    AppendChatToken(tokens_, bytes, logprob);
    tokens_ += ",\"top_logprobs\":[";
    for (size_t i = 0; i < top.size(); ++i) {
      tokens_ += i > 0 ? "," : "";
      AppendChatToken(tokens_, top[i].bytes, top[i].logprob);
      tokens_ += '}';
    }
    tokens_ += "]}";
    return;
  }
  const std::string name = LegacyToken(bytes);
  AppendJsonString(tokens_, name);
  logprobs_ += separator;
  AppendLogprob(logprobs_, logprob);
  offsets_ += separator;
  AppendInt(offsets_, offset_chars_);
  offset_chars_ += shown ? CountCharacters(bytes) : 0;
  tops_ += separator;
  AppendLegacyTop(tops_, top, {name, logprob});
}

std::string LogprobText::Take() {
  std::string out;
  if (kind_ == ResponseKind::kChat) {
    out = "{\"content\":[" + tokens_ + "]}";
  } else {
    out = "{\"text_offset\":[" + offsets_ + "],\"token_logprobs\":[" + logprobs_ +
          "],\"tokens\":[" + tokens_ + "],\"top_logprobs\":[" + tops_ + "]}";
  }
  tokens_.clear();
  logprobs_.clear();
  tops_.clear();
  offsets_.clear();
  return out;
}

std::string EncodeResponse(const ResponseMeta& meta, std::span<const ChoiceResult> choices,
                           const Usage& usage) {
  const bool chat = meta.kind == ResponseKind::kChat;
  std::string out;
  AppendMeta(out, meta, chat ? "chat.completion" : "text_completion");
  out += ",\"choices\":[";
  for (size_t i = 0; i < choices.size(); ++i) {
    const ChoiceResult& choice = choices[i];
    out += i > 0 ? ",{\"index\":" : "{\"index\":";
    AppendInt(out, static_cast<int64_t>(i));
    out += chat ? ",\"message\":{\"role\":\"assistant\",\"content\":" : ",\"text\":";
    AppendJsonString(out, choice.text);
    out += chat ? "},\"logprobs\":" : ",\"logprobs\":";
    out += choice.logprobs_json.empty() ? "null" : choice.logprobs_json;
    out += ",\"finish_reason\":";
    AppendJsonString(out, choice.finish_reason);
    out += ",\"stop_reason\":";
    AppendStopReason(out, choice.stop_reason);
    out += '}';
  }
  out += "],\"usage\":";
  AppendUsage(out, usage);
  out += '}';
  return out;
}

StreamEncoder::StreamEncoder(const ResponseMeta& meta) : kind_(meta.kind), prefix_("data: ") {
  AppendMeta(prefix_, meta,
             kind_ == ResponseKind::kChat ? "chat.completion.chunk" : "text_completion");
  prefix_ += ",\"choices\":[";
}

void StreamEncoder::Open(std::string& out, int32_t choice) const {
  out += prefix_;
  out += "{\"index\":";
  AppendInt(out, choice);
}

void StreamEncoder::Close(std::string& out, const Usage* usage) {
  out += ']';
  if (usage != nullptr) {
    out += ",\"usage\":";
    AppendUsage(out, *usage);
  }
  out += "}\n\n";
}

void StreamEncoder::Role(std::string& out, int32_t choice, const Usage* usage) const {
  Open(out, choice);
  out +=
      ",\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,"
      "\"finish_reason\":null}";
  Close(out, usage);
}

void StreamEncoder::Delta(std::string& out, int32_t choice, std::string_view text,
                          std::string_view logprobs_json, const Usage* usage) const {
  Open(out, choice);
  const bool chat = kind_ == ResponseKind::kChat;
  out += chat ? ",\"delta\":{\"content\":" : ",\"text\":";
  AppendJsonString(out, text);
  out += chat ? "},\"logprobs\":" : ",\"logprobs\":";
  out += logprobs_json.empty() ? "null" : logprobs_json;
  out += ",\"finish_reason\":null}";
  Close(out, usage);
}

void StreamEncoder::Finish(std::string& out, int32_t choice, std::string_view finish_reason,
                           const StopReason& stop_reason, const Usage* usage) const {
  Open(out, choice);
  out += kind_ == ResponseKind::kChat ? ",\"delta\":{}" : ",\"text\":\"\"";
  out += ",\"logprobs\":null,\"finish_reason\":";
  AppendJsonString(out, finish_reason);
  out += ",\"stop_reason\":";
  AppendStopReason(out, stop_reason);
  out += '}';
  Close(out, usage);
}

void StreamEncoder::UsageChunk(std::string& out, const Usage& usage) const {
  out += prefix_;
  Close(out, &usage);
}

void StreamEncoder::Error(std::string& out, const ErrorInfo& info) {
  out += "data: ";
  out += ErrorBody(info);
  out += "\n\n";
}

void StreamEncoder::Done(std::string& out) {
  out += "data: [DONE]\n\n";
}

}  // namespace mach::api
