// One function for each format of tool calls, which makes its parser. For OutputParser::Make, which
// chooses among them; nobody else needs to know the formats apart.
#pragma once

#include <memory>

#include "chat/output_parser.h"

namespace mach::chat {

std::unique_ptr<OutputParser> MakeQwen3XmlParser(ParserOptions& options);
std::unique_ptr<OutputParser> MakeHermesParser(ParserOptions& options);
std::unique_ptr<OutputParser> MakeHarmonyParser(ParserOptions& options);
std::unique_ptr<OutputParser> MakeGemma4Parser(ParserOptions& options);
// `wrapper` is the name of the tag around calls: "tool_calls", in V3.2 "function_calls", in V4.1
// " calls", with the space that there follows each marker.
std::unique_ptr<OutputParser> MakeDsmlParser(ParserOptions& options, const char* wrapper);

}  // namespace mach::chat
