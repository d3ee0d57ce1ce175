// One function for each format of tool calls, which writes its grammar. For tool_grammar.cc, which
// chooses among them; nobody else needs to know the formats apart.
#pragma once

#include <span>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "grammar/call_watch.h"
#include "grammar/lark_text.h"

namespace mach::grammar {

// A tool whose schema has been admitted: of type object, its references into its own `$defs`.
struct AdmittedTool {
  std::string name;
  nlohmann::ordered_json arguments;
};

struct CallSyntax {
  std::string one;   // a call, and nothing else
  std::string many;  // or several
  std::string rest;  // what follows an opener, up to the end of what it opened
  CallOpeners openers;
};

using Tools = std::span<const AdmittedTool>;
CallSyntax HermesCalls(LarkText& lark, Tools tools);
CallSyntax Qwen3XmlCalls(LarkText& lark, Tools tools);
CallSyntax HarmonyCalls(LarkText& lark, Tools tools);
// `wrapper` is the name of the outer tag, `space` what stands before the names of tags.
CallSyntax DsmlCalls(LarkText& lark, Tools tools, const std::string& wrapper,
                     const std::string& space);
CallSyntax Gemma4Calls(LarkText& lark, Tools tools);

// `marker` as what opens a call.
CallOpeners OpenedBy(const LarkText& lark, const std::string& marker);

// A parameter of a tool, for formats that write them one by one.
struct Parameter {
  std::string name;
  nlohmann::ordered_json schema;  // with the `$defs` that it refers to
  bool required = false;
  bool is_text = false;               // written as it is, without quotes
  std::vector<std::string> literals;  // of a text: all that it may be, if that is a list
};
std::vector<Parameter> Parameters(const AdmittedTool& tool);

// What a schema's references lead to, with keywords beside a reference left out.
const nlohmann::ordered_json& Resolved(const nlohmann::ordered_json& schema,
                                       const nlohmann::ordered_json& defs);

}  // namespace mach::grammar
