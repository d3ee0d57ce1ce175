#include "chat/detect.h"

namespace mach::chat {
namespace {

bool Has(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

}  // namespace

ChatFormats DetectFormats(std::string_view chat_template, std::string_view /*model_type*/) {
  ChatFormats formats;
  if (Has(chat_template, "<|channel|>")) {
    formats.calls = CallFormat::kHarmony;
  } else if (Has(chat_template, "<function=")) {
    formats.calls = CallFormat::kQwen3Coder;
  } else if (Has(chat_template, "<tool_call>")) {
    formats.calls = CallFormat::kHermes;
  }
  if (Has(chat_template, "</think>")) {
    formats.reasoning = ReasoningFormat::kQwen3;
  }
  return formats;
}

bool StartsInReasoning(std::string_view prompt, ReasoningFormat reasoning) {
  if (reasoning == ReasoningFormat::kNone) {
    return false;
  }
  const size_t open = prompt.rfind("<think>");
  const size_t close = prompt.rfind("</think>");
  return open != std::string_view::npos && (close == std::string_view::npos || close < open);
}

}  // namespace mach::chat
