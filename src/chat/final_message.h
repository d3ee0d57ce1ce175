// The message that a chat's deltas add up to, and both as JSON. Values; any thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "chat/output_parser.h"

namespace mach::chat {

struct ToolCall {
  std::string id;
  std::string name;
  std::string arguments;  // JSON; unfinished if the output was cut off inside it
};

struct FinalMessage {
  std::string content;
  std::string reasoning;
  std::vector<ToolCall> calls;
};

// Adds `deltas` in order; call it for each batch, or once with all.
void AddDeltas(FinalMessage& message, std::span<const ChatDelta> deltas);

// "stop", "length" or "tool_calls", for tool_choice auto and required.
const char* FinishReason(const FinalMessage& message, EndReason ended);

// About the memory that it takes.
uint64_t HeldBytes(const FinalMessage& message);

// Under which names reasoning is written; at least one.
struct ReasoningNames {
  bool reasoning_content = true;
  bool reasoning = false;
};

// One delta object of a chunk, as {"content":"…"}.
void AppendDeltaJson(std::string& out, const ChatDelta& delta, ReasoningNames names = {});

// {"role":"assistant","content":…}: content is null when empty and calls or reasoning exist; the
// other fields are left out when empty.
void AppendMessageJson(std::string& out, const FinalMessage& message, ReasoningNames names = {});

}  // namespace mach::chat
