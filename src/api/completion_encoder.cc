#include <algorithm>
#include <utility>
#include <vector>

#include "api/openai_encoder.h"
#include "base/json_string.h"
#include "text/unicode.h"

namespace mach::api {
namespace {

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

// The legacy object of parallel arrays. Text offsets go on counting from one Take to the next.
class CompletionLogprobs : public LogprobWriter {
 public:
  void Add(const TokenView& token) override {
    const std::string name = LegacyToken(token.bytes);
    AppendJsonString(Next(tokens_), name);
    AppendLogprob(Next(logprobs_), token.logprob);
    Next(offsets_) += std::to_string(offset_chars_);
    offset_chars_ += token.shown ? CountCharacters(token.bytes) : 0;
    AppendLegacyTop(Next(tops_), token.top, {name, token.logprob});
    any_ = true;
  }

  void Take(Pieces& out) override {
    out.Append("{\"text_offset\":[");
    out.Append(std::exchange(offsets_, Pieces()));
    out.Append("],\"token_logprobs\":[");
    out.Append(std::exchange(logprobs_, Pieces()));
    out.Append("],\"tokens\":[");
    out.Append(std::exchange(tokens_, Pieces()));
    out.Append("],\"top_logprobs\":[");
    out.Append(std::exchange(tops_, Pieces()));
    out.Append("]}");
    any_ = false;
  }

  uint64_t held_bytes() const override {
    return tokens_.size_bytes() + logprobs_.size_bytes() + tops_.size_bytes() +
           offsets_.size_bytes();
  }

 private:
  std::string& Next(Pieces& array) const {
    std::string& out = array.Tail();
    out += any_ ? "," : "";
    return out;
  }

  Pieces tokens_;
  Pieces logprobs_;
  Pieces tops_;
  Pieces offsets_;
  int64_t offset_chars_ = 0;
  bool any_ = false;  // since the last Take
};

constexpr OpenAiForm kForm = {
    .whole_object = "text_completion",
    .chunk_object = "text_completion",
    .first_delta = nullptr,
    .append_delta =
        [](std::string& out, const chat::ChatDelta* delta, const AnswerSpec& /*spec*/) {
          out += ",\"text\":";
          AppendJsonString(out, delta != nullptr ? delta->text : "");
        },
    .append_message =
        [](std::string& out, const chat::FinalMessage& message, const AnswerSpec& /*spec*/) {
          out += ",\"text\":";
          AppendJsonString(out, message.content);
        },
    .make_logprobs = []() -> std::unique_ptr<LogprobWriter> {
      return std::make_unique<CompletionLogprobs>();
    },
};

}  // namespace

std::unique_ptr<AnswerEncoder> MakeCompletionEncoder(AnswerSpec spec) {
  return MakeOpenAiEncoder(std::move(spec), kForm);
}

}  // namespace mach::api
