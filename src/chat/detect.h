// How a checkpoint's chats mark calls and reasoning: found from its template's text and model_type.
// Any thread.
#pragma once

#include <string_view>

#include "chat/output_parser.h"

namespace mach::chat {

struct ChatFormats {
  CallFormat calls = CallFormat::kNone;
  ReasoningFormat reasoning = ReasoningFormat::kNone;
};

ChatFormats DetectFormats(std::string_view chat_template, std::string_view model_type);

// Whether the end of a rendered prompt leaves reasoning open.
bool StartsInReasoning(std::string_view prompt, ReasoningFormat reasoning);

}  // namespace mach::chat
