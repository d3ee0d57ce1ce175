#include "chat/final_message.h"

#include "base/json_string.h"

namespace mach::chat {
namespace {

void AppendReasoning(std::string& out, std::string_view text, ReasoningNames names) {
  for (const auto& [wanted, key] : {std::pair(names.reasoning_content, "\"reasoning_content\":"),
                                    std::pair(names.reasoning, "\"reasoning\":")}) {
    if (wanted) {
      out += out.back() == '{' || out.back() == ',' ? "" : ",";
      out += key;
      AppendJsonString(out, text);
    }
  }
}

}  // namespace

void AddDeltas(FinalMessage& message, std::span<const ChatDelta> deltas) {
  for (const ChatDelta& delta : deltas) {
    switch (delta.kind) {
      case ChatDelta::Kind::kContent:
        message.content += delta.text;
        break;
      case ChatDelta::Kind::kReasoning:
        message.reasoning += delta.text;
        break;
      case ChatDelta::Kind::kCallStart:
        message.calls.push_back({delta.id, delta.text, ""});
        break;
      case ChatDelta::Kind::kCallArguments:
        message.calls[static_cast<size_t>(delta.index)].arguments += delta.text;
        break;
    }
  }
}

const char* FinishReason(const FinalMessage& message, EndReason ended) {
  if (ended == EndReason::kLength) {
    return "length";
  }
  return message.calls.empty() ? "stop" : "tool_calls";
}

uint64_t HeldBytes(const FinalMessage& message) {
  uint64_t bytes = message.content.capacity() + message.reasoning.capacity();
  for (const ToolCall& call : message.calls) {
    bytes += sizeof(call) + call.name.capacity() + call.arguments.capacity();
  }
  return bytes;
}

void AppendDeltaJson(std::string& out, const ChatDelta& delta, ReasoningNames names) {
  switch (delta.kind) {
    case ChatDelta::Kind::kContent:
      out += "{\"content\":";
      AppendJsonString(out, delta.text);
      out += '}';
      return;
    case ChatDelta::Kind::kReasoning:
      out += '{';
      AppendReasoning(out, delta.text, names);
      out += '}';
      return;
    case ChatDelta::Kind::kCallStart:
      out += "{\"tool_calls\":[{\"index\":" + std::to_string(delta.index) + ",\"id\":";
      AppendJsonString(out, delta.id);
      out += ",\"type\":\"function\",\"function\":{\"name\":";
      AppendJsonString(out, delta.text);
      out += ",\"arguments\":\"\"}}]}";
      return;
    case ChatDelta::Kind::kCallArguments:
      out += "{\"tool_calls\":[{\"index\":" + std::to_string(delta.index) +
             ",\"function\":{\"arguments\":";
      AppendJsonString(out, delta.text);
      out += "}}]}";
      return;
  }
}

void AppendMessageJson(std::string& out, const FinalMessage& message, ReasoningNames names) {
  out += "{\"role\":\"assistant\",\"content\":";
  if (message.content.empty() && (!message.calls.empty() || !message.reasoning.empty())) {
    out += "null";
  } else {
    AppendJsonString(out, message.content);
  }
  if (!message.reasoning.empty()) {
    out += ',';
    AppendReasoning(out, message.reasoning, names);
  }
  if (!message.calls.empty()) {
    out += ",\"tool_calls\":[";
    for (size_t i = 0; i < message.calls.size(); ++i) {
      out += i > 0 ? ",{\"id\":" : "{\"id\":";
      AppendJsonString(out, message.calls[i].id);
      out += ",\"type\":\"function\",\"function\":{\"name\":";
      AppendJsonString(out, message.calls[i].name);
      out += ",\"arguments\":";
      AppendJsonString(out, message.calls[i].arguments);
      out += "}}";
    }
    out += ']';
  }
  out += '}';
}

}  // namespace mach::chat
