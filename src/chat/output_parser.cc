#include "chat/output_parser.h"

#include <array>
#include <utility>

#include "chat/formats.h"
#include "chat/markup_parser.h"

namespace mach::chat {

std::optional<CallFormat> CallFormatFromName(std::string_view name) {
  constexpr std::array<std::pair<std::string_view, CallFormat>, 7> kNames = {{
      {"qwen3_coder", CallFormat::kQwen3Coder},
      {"qwen3_xml", CallFormat::kQwen3Coder},
      {"hermes", CallFormat::kHermes},
      {"harmony", CallFormat::kHarmony},
      {"deepseek_v4", CallFormat::kDeepseekV4},
      {"deepseek_v32", CallFormat::kDeepseekV32},
      {"none", CallFormat::kNone},
  }};
  for (const auto& [known, format] : kNames) {
    if (known == name) {
      return format;
    }
  }
  return std::nullopt;
}

std::optional<ReasoningFormat> ReasoningFormatFromName(std::string_view name) {
  constexpr std::array<std::pair<std::string_view, ReasoningFormat>, 4> kNames = {{
      {"qwen3", ReasoningFormat::kQwen3},
      {"deepseek_r1", ReasoningFormat::kDeepseekR1},
      {"deepseek_v4", ReasoningFormat::kDeepseekV4},
      {"none", ReasoningFormat::kNone},
  }};
  for (const auto& [known, format] : kNames) {
    if (known == name) {
      return format;
    }
  }
  return std::nullopt;
}

std::unique_ptr<OutputParser> OutputParser::Make(ParserOptions options) {
  switch (options.format) {
    case CallFormat::kQwen3Coder:
      return MakeQwen3XmlParser(options);
    case CallFormat::kHermes:
      return MakeHermesParser(options);
    case CallFormat::kHarmony:
      return MakeHarmonyParser(options);
    case CallFormat::kDeepseekV4:
      return MakeDsmlParser(options, "tool_calls");
    case CallFormat::kDeepseekV32:
      return MakeDsmlParser(options, "function_calls");
    case CallFormat::kNone:
      break;
  }
  return std::make_unique<MarkupParser>(options);
}

}  // namespace mach::chat
