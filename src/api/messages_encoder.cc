// The answers of /v1/messages, in the way of Anthropic.
#include <optional>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "api/answer_encoder.h"
#include "api/blocks.h"
#include "base/json_string.h"

namespace mach::api {
namespace {

// Clients send thinking back only with a signature. Nothing is signed here: any will do.
constexpr char kSignature[] = "bWFjaA==";

void AppendMessagesUsage(std::string& out, const UsageReport& usage) {
  out += "\"usage\":{\"input_tokens\":";
  out += std::to_string(usage.prompt_tokens - usage.cached_tokens);
  out += ",\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":";
  out += std::to_string(usage.cached_tokens);
  out += ",\"output_tokens\":";
  out += std::to_string(usage.completion_tokens);
  out += '}';
}

// A block as it begins: empty.
void AppendBlockStart(std::string& out, const Block& block) {
  switch (block.kind) {
    case Block::Kind::kReasoning:
      out += R"({"type":"thinking","thinking":"","signature":""})";
      return;
    case Block::Kind::kText:
      out += R"({"type":"text","text":""})";
      return;
    case Block::Kind::kCall:
      out += "{\"type\":\"tool_use\",\"id\":";
      AppendJsonString(out, block.id);
      out += ",\"name\":";
      AppendJsonString(out, block.name);
      out += ",\"input\":{}}";
      return;
  }
}

// Arguments as an object, which is what clients take them for.
std::string InputObject(const std::string& arguments) {
  if (nlohmann::json::accept(arguments)) {
    const size_t first = arguments.find_first_not_of(" \t\r\n");
    return arguments[first] == '{' ? arguments : "{\"arguments\":" + arguments + "}";
  }
  std::string out = "{\"arguments\":";
  AppendJsonString(out, arguments);
  return out + "}";
}

void AppendWholeBlock(std::string& out, const Block& block) {
  switch (block.kind) {
    case Block::Kind::kReasoning:
      out += "{\"type\":\"thinking\",\"thinking\":";
      AppendJsonString(out, block.text);
      out += std::string(",\"signature\":\"") + kSignature + "\"}";
      return;
    case Block::Kind::kText:
      out += "{\"type\":\"text\",\"text\":";
      AppendJsonString(out, block.text);
      out += '}';
      return;
    case Block::Kind::kCall:
      out += "{\"type\":\"tool_use\",\"id\":";
      AppendJsonString(out, block.id);
      out += ",\"name\":";
      AppendJsonString(out, block.name);
      out += ",\"input\":" + InputObject(block.text) + "}";
      return;
  }
}

class MessagesEncoder : public AnswerEncoder {
 public:
  explicit MessagesEncoder(AnswerSpec spec) : spec_(std::move(spec)) {}

  void Begin(Pieces& out, const UsageReport& usage) override {
    if (!spec_.stream) {
      return;
    }
    std::string& text = OpenEvent(out, "message_start");
    text += ",\"message\":";
    AppendHead(text);
    text += "],\"stop_reason\":null,\"stop_sequence\":null,";
    AppendMessagesUsage(text, usage);
    text += "}}";
    text += kEventEnd;
  }

  void Delta(Pieces& out, const DeltaEvent& event, const UsageReport& /*usage*/) override {
    for (const chat::ChatDelta& delta : event.deltas) {
      if (!open_ || BeginsBlock(*open_, delta)) {
        CloseBlock(out);
        OpenBlock(out, BlockOf(delta));
      }
      const std::string_view more = AddedText(delta);
      if (more.empty()) {
        continue;
      }
      if (spec_.stream) {
        AppendDelta(out, more);
      } else {
        blocks_.back().text += more;
      }
    }
  }

  void EndChoice(Pieces& out, ChoiceEnd end, const UsageReport& /*usage*/) override {
    const bool cut = end.finish_reason == "length";
    if (cut && !spec_.stream && open_ == Block::Kind::kCall) {
      blocks_.pop_back();  // its input is no object: nothing that could be run
    }
    CloseBlock(out);
    const auto* stop = std::get_if<std::string>(&end.stop_reason);
    end_ = cut               ? "\"stop_reason\":\"max_tokens\""
           : called_         ? "\"stop_reason\":\"tool_use\""
           : stop != nullptr ? "\"stop_reason\":\"stop_sequence\""
                             : "\"stop_reason\":\"end_turn\"";
    end_ += ",\"stop_sequence\":";
    if (stop != nullptr && !cut && !called_) {
      AppendJsonString(end_, *stop);
    } else {
      end_ += "null";
    }
  }

  void End(Pieces& out, const UsageReport& usage) override {
    if (spec_.stream) {
      std::string& text = OpenEvent(out, "message_delta");
      text += ",\"delta\":{" + end_ + "},";
      AppendMessagesUsage(text, usage);
      text += '}';
      text += kEventEnd;
      OpenEvent(out, "message_stop").append("}").append(kEventEnd);
      return;
    }
    AppendHead(out.Tail());
    for (size_t i = 0; i < blocks_.size(); ++i) {
      const Block block = std::move(blocks_[i]);  // given up as soon as it is written
      std::string& text = out.Tail();
      text += i > 0 ? "," : "";
      AppendWholeBlock(text, block);
    }
    blocks_.clear();
    std::string& text = out.Tail();
    text += "]," + end_ + ",";
    AppendMessagesUsage(text, usage);
    text += '}';
  }

  void Fail(Pieces& out, const ErrorInfo& info) override {
    const std::string body = AnthropicErrorBody(info, spec_.request_id);
    out.Append(spec_.stream ? "event: error\ndata: " + body + "\n\n" : body);
  }

  std::string Heartbeat() override { return "event: ping\ndata: {\"type\":\"ping\"}\n\n"; }

  uint64_t held_bytes() const override {
    uint64_t bytes = 0;
    for (const Block& block : blocks_) {
      bytes += block.held_bytes();
    }
    return bytes;
  }

 private:
  // The message up to its content.
  void AppendHead(std::string& text) const {
    text += "{\"id\":";
    AppendJsonString(text, spec_.id);
    text += ",\"type\":\"message\",\"role\":\"assistant\",\"model\":";
    AppendJsonString(text, spec_.model);
    text += ",\"content\":[";
  }

  std::string& OpenIndexed(Pieces& out, std::string_view name) const {
    std::string& text = OpenEvent(out, name);
    text += ",\"index\":" + std::to_string(index_);
    return text;
  }

  void OpenBlock(Pieces& out, Block block) {
    open_ = block.kind;
    called_ = called_ || block.kind == Block::Kind::kCall;
    if (!spec_.stream) {
      blocks_.push_back(std::move(block));
      return;
    }
    std::string& text = OpenIndexed(out, "content_block_start");
    text += ",\"content_block\":";
    AppendBlockStart(text, block);
    text += '}';
    text += kEventEnd;
  }

  void AppendDelta(Pieces& out, std::string_view more) const {
    std::string& text = OpenIndexed(out, "content_block_delta");
    text += *open_ == Block::Kind::kReasoning ? R"(,"delta":{"type":"thinking_delta","thinking":)"
            : *open_ == Block::Kind::kText
                ? R"(,"delta":{"type":"text_delta","text":)"
                : R"(,"delta":{"type":"input_json_delta","partial_json":)";
    AppendJsonString(text, more);
    text += "}}";
    text += kEventEnd;
  }

  void CloseBlock(Pieces& out) {
    if (!open_) {
      return;
    }
    if (spec_.stream) {
      if (*open_ == Block::Kind::kReasoning) {
        std::string& text = OpenIndexed(out, "content_block_delta");
        text += std::string(R"(,"delta":{"type":"signature_delta","signature":")") + kSignature +
                "\"}}";
        text += kEventEnd;
      }
      OpenIndexed(out, "content_block_stop").append("}").append(kEventEnd);
    }
    open_.reset();
    ++index_;
  }

  const AnswerSpec spec_;
  std::optional<Block::Kind> open_;
  int64_t index_ = 0;  // of the open block, or of the next
  bool called_ = false;
  std::vector<Block> blocks_;  // of a whole answer
  std::string end_;            // stop_reason and stop_sequence, as JSON
};

}  // namespace

std::unique_ptr<AnswerEncoder> MakeMessagesEncoder(AnswerSpec spec) {
  return std::make_unique<MessagesEncoder>(std::move(spec));
}

}  // namespace mach::api
