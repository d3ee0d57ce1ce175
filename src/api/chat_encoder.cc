#include <utility>

#include "api/openai_encoder.h"
#include "base/json_string.h"

namespace mach::api {
namespace {

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
    out += std::to_string(static_cast<uint8_t>(bytes[i]));
  }
  out += ']';
}

// {"content":[…]}.
class ChatLogprobs : public LogprobWriter {
 public:
  void Add(const TokenView& token) override {
    std::string& out = entries_.Tail();
    out += any_ ? "," : "";
    any_ = true;
    AppendChatToken(out, token.bytes, token.logprob);
    out += ",\"top_logprobs\":[";
    for (size_t i = 0; i < token.top.size(); ++i) {
      out += i > 0 ? "," : "";
      AppendChatToken(out, token.top[i].bytes, token.top[i].logprob);
      out += '}';
    }
    out += "]}";
  }

  void Take(Pieces& out) override {
    out.Append("{\"content\":[");
    out.Append(std::exchange(entries_, Pieces()));
    out.Append("]}");
    any_ = false;
  }

  uint64_t held_bytes() const override { return entries_.size_bytes(); }

 private:
  Pieces entries_;
  bool any_ = false;  // since the last Take
};

chat::ReasoningNames NamesOf(const AnswerSpec& spec) {
  return {.reasoning_content = spec.reasoning_content, .reasoning = spec.reasoning};
}

constexpr OpenAiForm kForm = {
    .whole_object = "chat.completion",
    .chunk_object = "chat.completion.chunk",
    .first_delta = ",\"delta\":{\"role\":\"assistant\",\"content\":\"\"}",
    .append_delta =
        [](std::string& out, const chat::ChatDelta* delta, const AnswerSpec& spec) {
          out += ",\"delta\":";
          if (delta == nullptr) {
            out += "{}";
          } else {
            chat::AppendDeltaJson(out, *delta, NamesOf(spec));
          }
        },
    .append_message =
        [](std::string& out, const chat::FinalMessage& message, const AnswerSpec& spec) {
          out += ",\"message\":";
          chat::AppendMessageJson(out, message, NamesOf(spec));
        },
    .make_logprobs = []() -> std::unique_ptr<LogprobWriter> {
      return std::make_unique<ChatLogprobs>();
    },
};

}  // namespace

std::unique_ptr<AnswerEncoder> MakeChatEncoder(AnswerSpec spec) {
  return MakeOpenAiEncoder(std::move(spec), kForm);
}

}  // namespace mach::api
