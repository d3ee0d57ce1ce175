// <tool_call>{"name": …, "arguments": {…}}</tool_call>, with or without line ends within.
#include "grammar/formats/formats.h"

namespace mach::grammar {

CallSyntax HermesCalls(LarkText& lark, Tools tools) {
  std::vector<std::string> bodies;
  for (const AdmittedTool& tool : tools) {
    nlohmann::ordered_json arguments = tool.arguments;
    nlohmann::ordered_json body = {{"type", "object"}};
    if (arguments.contains("$defs")) {
      body["$defs"] = arguments["$defs"];
      arguments.erase("$defs");
    }
    body["properties"] = {{"name", {{"const", tool.name}}}, {"arguments", arguments}};
    body["required"] = {"name", "arguments"};
    body["additionalProperties"] = false;
    bodies.push_back(lark.Json(body));
  }
  CallSyntax syntax;
  syntax.rest =
      lark.Rule("\"\\n\"? " + Either(bodies) + " \"\\n\"? " + lark.Marker("</tool_call>"));
  syntax.one = lark.Rule(lark.Marker("<tool_call>") + " " + syntax.rest);
  syntax.many = lark.Rule(syntax.one + " (\"\\n\"? " + syntax.one + ")*");
  syntax.openers = OpenedBy(lark, "<tool_call>");
  return syntax;
}

}  // namespace mach::grammar
