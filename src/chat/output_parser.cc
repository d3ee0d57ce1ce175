#include "chat/output_parser.h"

#include <array>

#include "chat/formats.h"
#include "chat/markup_parser.h"

namespace mach::chat {

namespace {

template <typename Format>
struct Named {
  std::string_view name;
  Format format;
};

constexpr std::array<Named<CallFormat>, 9> kCallFormats = {{
    {"qwen3_coder", CallFormat::kQwen3Coder},
    {"qwen3_xml", CallFormat::kQwen3Coder},
    {"hermes", CallFormat::kHermes},
    {"harmony", CallFormat::kHarmony},
    {"deepseek_v4", CallFormat::kDeepseekV4},
    {"deepseek_v32", CallFormat::kDeepseekV32},
    {"deepseek_v41", CallFormat::kDeepseekV41},
    {"gemma4", CallFormat::kGemma4},
    {"none", CallFormat::kNone},
}};

constexpr std::array<Named<ReasoningFormat>, 5> kReasoningFormats = {{
    {"qwen3", ReasoningFormat::kQwen3},
    {"deepseek_r1", ReasoningFormat::kDeepseekR1},
    {"deepseek_v4", ReasoningFormat::kDeepseekV4},
    {"gemma4", ReasoningFormat::kGemma4},
    {"none", ReasoningFormat::kNone},
}};

template <typename Table>
std::vector<std::string> NamesIn(const Table& table) {
  std::vector<std::string> names;
  names.reserve(table.size());
  for (const auto& entry : table) {
    names.emplace_back(entry.name);
  }
  return names;
}

template <typename Format, size_t kCount>
std::optional<Format> Find(const std::array<Named<Format>, kCount>& table, std::string_view name) {
  for (const Named<Format>& entry : table) {
    if (entry.name == name) {
      return entry.format;
    }
  }
  return std::nullopt;
}

template <typename Format, size_t kCount>
std::string_view NameIn(const std::array<Named<Format>, kCount>& table, Format format) {
  for (const Named<Format>& entry : table) {
    if (entry.format == format) {
      return entry.name;
    }
  }
  return "none";
}

}  // namespace

std::vector<std::string> CallFormatNames() {
  return NamesIn(kCallFormats);
}

std::vector<std::string> ReasoningFormatNames() {
  return NamesIn(kReasoningFormats);
}

std::optional<CallFormat> CallFormatFromName(std::string_view name) {
  return Find(kCallFormats, name);
}

std::optional<ReasoningFormat> ReasoningFormatFromName(std::string_view name) {
  return Find(kReasoningFormats, name);
}

std::string_view NameOf(CallFormat format) {
  return NameIn(kCallFormats, format);
}

std::string_view NameOf(ReasoningFormat format) {
  return NameIn(kReasoningFormats, format);
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
    case CallFormat::kDeepseekV41:
      return MakeDsmlParser(options, " calls");
    case CallFormat::kGemma4:
      return MakeGemma4Parser(options);
    case CallFormat::kNone:
      break;
  }
  return std::make_unique<MarkupParser>(options);
}

}  // namespace mach::chat
