// The answers of /v1/responses.
#include <utility>
#include <vector>

#include "api/answer_encoder.h"
#include "api/blocks.h"
#include "base/json_string.h"

namespace mach::api {
namespace {

struct Item {
  Block block;
  std::string id;
  const char* status = "in_progress";
};

void AppendMember(std::string& out, const char* name, std::string_view text) {
  out += std::string(",\"") + name + "\":";
  AppendJsonString(out, text);
}

// The one part that the content of a message or of reasoning has.
void AppendPart(std::string& out, Block::Kind kind, std::string_view text) {
  const bool reasoning = kind == Block::Kind::kReasoning;
  out += reasoning ? R"({"type":"reasoning_text")" : R"({"type":"output_text","annotations":[])";
  AppendMember(out, "text", text);
  out += '}';
}

// An item with its text, or as it begins.
void AppendItem(std::string& out, const Item& item, bool begins) {
  const Block& block = item.block;
  out += "{\"id\":";
  AppendJsonString(out, item.id);
  AppendMember(out, "status", item.status);
  switch (block.kind) {
    case Block::Kind::kReasoning:
      out += R"(,"type":"reasoning","summary":[],"content":[)";
      break;
    case Block::Kind::kText:
      out += R"(,"type":"message","role":"assistant","content":[)";
      break;
    case Block::Kind::kCall:
      out += R"(,"type":"function_call")";
      AppendMember(out, "call_id", block.id);
      AppendMember(out, "name", block.name);
      AppendMember(out, "arguments", begins ? std::string_view() : block.text);
      out += '}';
      return;
  }
  if (!begins) {
    AppendPart(out, block.kind, block.text);
  }
  out += "]}";
}

void AppendResponsesUsage(std::string& out, const UsageReport& usage) {
  const auto count = [&out](const char* name, int64_t value) {
    out += name;
    out += std::to_string(value);
  };
  count("{\"input_tokens\":", usage.prompt_tokens);
  count(",\"input_tokens_details\":{\"cached_tokens\":", usage.cached_tokens);
  count("},\"output_tokens\":", usage.completion_tokens);
  count(",\"output_tokens_details\":{\"reasoning_tokens\":", usage.reasoning_tokens);
  count("},\"total_tokens\":", usage.prompt_tokens + usage.completion_tokens);
  out += '}';
}

// Streamed or not, the whole answer gathers: the last event holds it.
class ResponsesEncoder : public AnswerEncoder {
 public:
  explicit ResponsesEncoder(AnswerSpec spec) : spec_(std::move(spec)) {}

  void Begin(Pieces& out, const UsageReport& /*usage*/) override {
    if (spec_.stream) {
      AppendInProgress(out, "response.created");
      AppendInProgress(out, "response.in_progress");
    }
  }

  void Delta(Pieces& out, const DeltaEvent& event, const UsageReport& /*usage*/) override {
    for (const chat::ChatDelta& delta : event.deltas) {
      if (!open_ || BeginsBlock(items_.back().block.kind, delta)) {
        CloseItem(out, "completed");
        OpenItem(out, BlockOf(delta));
      }
      const std::string_view more = AddedText(delta);
      if (more.empty()) {
        continue;
      }
      Item& item = items_.back();
      item.block.text += more;
      if (spec_.stream) {
        std::string& text = OpenOfItem(out, TextEvent(item, ".delta"));
        AppendMember(text, "delta", more);
        CloseText(text, item);
      }
    }
  }

  void EndChoice(Pieces& out, ChoiceEnd end, const UsageReport& /*usage*/) override {
    cut_ = end.finish_reason == "length";
    CloseItem(out, cut_ ? "incomplete" : "completed");
  }

  void End(Pieces& out, const UsageReport& usage) override {
    const char* const status = cut_ ? "incomplete" : "completed";
    if (spec_.stream) {
      OpenNumbered(out, std::string("response.") + status) += ",\"response\":";
    }
    AppendResponse(out, status, &usage, nullptr);
    if (spec_.stream) {
      out.Tail().append("}").append(kEventEnd);
    }
  }

  void Fail(Pieces& out, const ErrorInfo& info) override {
    if (!spec_.stream) {
      out.Append(ErrorBody(info));
      return;
    }
    if (open_) {
      items_.back().status = "incomplete";
    }
    OpenNumbered(out, "response.failed") += ",\"response\":";
    AppendResponse(out, "failed", nullptr, &info);
    out.Tail().append("}").append(kEventEnd);
  }

  // Codex does not count comments as signs of life, and all clients know this event.
  std::string Heartbeat() override {
    Pieces out;
    AppendInProgress(out, "response.in_progress");
    return out.Join();
  }

  uint64_t held_bytes() const override {
    uint64_t bytes = 0;
    for (const Item& item : items_) {
      bytes += sizeof(item) + item.block.held_bytes();
    }
    return bytes;
  }

 private:
  std::string& OpenNumbered(Pieces& out, std::string_view name) {
    std::string& text = OpenEvent(out, name);
    text += ",\"sequence_number\":" + std::to_string(sequence_++);
    return text;
  }

  std::string& OpenOfItem(Pieces& out, std::string_view name) {
    std::string& text = OpenNumbered(out, name);
    AppendMember(text, "item_id", items_.back().id);
    text += ",\"output_index\":" + std::to_string(items_.size() - 1);
    return text;
  }

  static std::string TextEvent(const Item& item, const char* step) {
    const char* const name = item.block.kind == Block::Kind::kReasoning ? "reasoning_text"
                             : item.block.kind == Block::Kind::kText    ? "output_text"
                                                                        : "function_call_arguments";
    return std::string("response.") + name + step;
  }

  static void CloseText(std::string& text, const Item& item) {
    text += item.block.kind == Block::Kind::kCall ? "" : ",\"content_index\":0";
    text += item.block.kind == Block::Kind::kText ? ",\"logprobs\":[]}" : "}";
    text += kEventEnd;
  }

  void AppendInProgress(Pieces& out, const char* name) {
    std::string& text = OpenNumbered(out, name);
    text += ",\"response\":";
    AppendResponseHead(text, "in_progress", nullptr);
    text += "],\"usage\":null}}";
    text += kEventEnd;
  }

  // The response up to its output.
  void AppendResponseHead(std::string& text, const char* status, const ErrorInfo* error) const {
    text += "{\"id\":";
    AppendJsonString(text, spec_.id);
    text += ",\"object\":\"response\",\"created_at\":" + std::to_string(spec_.created_unix_s);
    AppendMember(text, "status", status);
    text += ",\"background\":false,\"error\":";
    if (error == nullptr) {
      text += "null";
    } else {
      text += "{\"code\":";
      AppendJsonString(text, !error->code.empty()   ? error->code
                             : error->status >= 500 ? "server_error"
                                                    : "invalid_prompt");
      AppendMember(text, "message", error->message);
      text += '}';
    }
    text += ",\"incomplete_details\":";
    text += cut_ ? R"({"reason":"max_output_tokens"})" : "null";
    AppendMember(text, "model", spec_.model);
    text += R"(,"instructions":null,"previous_response_id":null,"store":false,"tools":[])";
    text += spec_.repeated;
    text += ",\"output\":[";
  }

  void AppendResponse(Pieces& out, const char* status, const UsageReport* usage,
                      const ErrorInfo* error) {
    AppendResponseHead(out.Tail(), status, error);
    for (size_t i = 0; i < items_.size(); ++i) {
      const Item item = std::move(items_[i]);  // given up as soon as it is written
      std::string& text = out.Tail();
      text += i > 0 ? "," : "";
      AppendItem(text, item, /*begins=*/false);
    }
    items_.clear();
    std::string& text = out.Tail();
    text += "],\"usage\":";
    if (usage == nullptr) {
      text += "null";
    } else {
      AppendResponsesUsage(text, *usage);
    }
    text += '}';
  }

  void OpenItem(Pieces& out, Block block) {
    const char* const prefix = block.kind == Block::Kind::kReasoning ? "rs_"
                               : block.kind == Block::Kind::kText    ? "msg_"
                                                                     : "fc_";
    const std::string unique = spec_.id.substr(spec_.id.find('_') + 1);
    items_.push_back(
        {.block = std::move(block), .id = prefix + unique + "_" + std::to_string(items_.size())});
    open_ = true;
    if (!spec_.stream) {
      return;
    }
    AppendItemEvent(out, "response.output_item.added", /*begins=*/true);
    if (items_.back().block.kind != Block::Kind::kCall) {
      AppendPartEvent(out, "response.content_part.added", "");
    }
  }

  // A call that was cut off is never done, so that no client runs it.
  void CloseItem(Pieces& out, const char* status) {
    if (!open_) {
      return;
    }
    open_ = false;
    Item& item = items_.back();
    item.status = status;
    const bool call = item.block.kind == Block::Kind::kCall;
    if (!spec_.stream || (call && cut_)) {
      return;
    }
    std::string& text = OpenOfItem(out, TextEvent(item, ".done"));
    if (call) {
      AppendMember(text, "name", item.block.name);
    }
    AppendMember(text, call ? "arguments" : "text", item.block.text);
    CloseText(text, item);
    if (!call) {
      AppendPartEvent(out, "response.content_part.done", item.block.text);
    }
    AppendItemEvent(out, "response.output_item.done", /*begins=*/false);
  }

  void AppendItemEvent(Pieces& out, const char* name, bool begins) {
    std::string& text = OpenNumbered(out, name);
    text += ",\"output_index\":" + std::to_string(items_.size() - 1) + ",\"item\":";
    AppendItem(text, items_.back(), begins);
    text += '}';
    text += kEventEnd;
  }

  void AppendPartEvent(Pieces& out, const char* name, std::string_view part) {
    std::string& text = OpenOfItem(out, name);
    text += ",\"content_index\":0,\"part\":";
    AppendPart(text, items_.back().block.kind, part);
    text += '}';
    text += kEventEnd;
  }

  const AnswerSpec spec_;
  std::vector<Item> items_;  // the last may be open
  bool open_ = false;
  bool cut_ = false;  // at max_output_tokens
  int64_t sequence_ = 0;
};

}  // namespace

std::unique_ptr<AnswerEncoder> MakeResponsesEncoder(AnswerSpec spec) {
  return std::make_unique<ResponsesEncoder>(std::move(spec));
}

}  // namespace mach::api
