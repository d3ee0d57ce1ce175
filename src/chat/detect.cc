#include "chat/detect.h"

#include <array>

namespace mach::chat {
namespace {

bool Has(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

CallFormat CallsOf(std::string_view text) {
  if (Has(text, "｜DSML｜")) {
    // The marker is often a variable of the template, so only what follows it is looked for.
    return Has(text, " calls>")           ? CallFormat::kDeepseekV41
           : Has(text, "function_calls>") ? CallFormat::kDeepseekV32
                                          : CallFormat::kDeepseekV4;
  }
  if (Has(text, "<|tool_call>") && Has(text, "call:")) {
    return CallFormat::kGemma4;
  }
  if (Has(text, "<|channel|>") && Has(text, "<|message|>")) {
    return CallFormat::kHarmony;
  }
  if (Has(text, "<function=")) {
    return CallFormat::kQwen3Coder;
  }
  if (Has(text, "<tool_call>") && Has(text, "\"name\"") && !Has(text, "<arg_key>")) {
    return CallFormat::kHermes;
  }
  return CallFormat::kNone;
}

ReasoningFormat ReasoningOf(std::string_view text, CallFormat call) {
  switch (call) {
    case CallFormat::kHarmony:
      return ReasoningFormat::kNone;  // a part of the format
    case CallFormat::kGemma4:
      return Has(text, "<|channel>") ? ReasoningFormat::kGemma4 : ReasoningFormat::kNone;
    case CallFormat::kDeepseekV4:
    case CallFormat::kDeepseekV32:
    case CallFormat::kDeepseekV41:
      return ReasoningFormat::kDeepseekV4;
    default:
      break;
  }
  if (!Has(text, "<think>") && !Has(text, "</think>")) {
    return ReasoningFormat::kNone;
  }
  return Has(text, "tool▁call▁begin") ? ReasoningFormat::kDeepseekR1 : ReasoningFormat::kQwen3;
}

struct OfModel {
  std::string_view model_type;  // or how it begins
  Formats formats;
};

// Longer names before those that they begin with.
constexpr std::array<OfModel, 9> kModels = {{
    {"deepseek_v32", {CallFormat::kDeepseekV32, ReasoningFormat::kDeepseekV4}},
    {"deepseek_v41", {CallFormat::kDeepseekV41, ReasoningFormat::kDeepseekV4}},
    {"deepseek_v4_1", {CallFormat::kDeepseekV41, ReasoningFormat::kDeepseekV4}},
    {"deepseek_v4", {CallFormat::kDeepseekV4, ReasoningFormat::kDeepseekV4}},
    {"gpt_oss", {CallFormat::kHarmony, ReasoningFormat::kNone}},
    {"gemma4", {CallFormat::kGemma4, ReasoningFormat::kGemma4}},
    {"qwen3_next", {CallFormat::kQwen3Coder, ReasoningFormat::kNone}},
    {"qwen3_5", {CallFormat::kQwen3Coder, ReasoningFormat::kQwen3}},
    {"qwen3", {CallFormat::kHermes, ReasoningFormat::kQwen3}},
}};

struct OpeningTag {
  std::string_view tag;
  std::string_view label;
};

OpeningTag OpeningTagOf(ReasoningFormat reasoning) {
  switch (reasoning) {
    case ReasoningFormat::kNone:
      return {};
    case ReasoningFormat::kGemma4:
      return {"<|channel>", "thought"};
    default:
      return {"<think>", ""};
  }
}

}  // namespace

Formats DetectFormats(std::string_view chat_template, std::string_view model_type) {
  if (!chat_template.empty()) {
    const CallFormat call = CallsOf(chat_template);
    return {call, ReasoningOf(chat_template, call)};
  }
  for (const OfModel& model : kModels) {
    if (model_type.starts_with(model.model_type)) {
      return model.formats;
    }
  }
  return {};
}

bool StartsInReasoning(std::string_view prompt_tail, ReasoningFormat reasoning) {
  const OpeningTag open = OpeningTagOf(reasoning);
  const size_t at = open.tag.empty() ? std::string_view::npos : prompt_tail.rfind(open.tag);
  if (at == std::string_view::npos) {
    return false;
  }
  std::string_view rest = prompt_tail.substr(at + open.tag.size());
  if (rest.starts_with(open.label)) {
    rest.remove_prefix(open.label.size());
  }
  return rest.find_first_not_of(" \t\r\n") == std::string_view::npos;
}

}  // namespace mach::chat
