// <|channel|>commentary to=functions.NAME <|constrain|>json<|message|>{…}<|call|>, with the
// recipient before the channel too. Messages of reasoning may come first.
#include "grammar/formats/formats.h"

namespace mach::grammar {

CallSyntax HarmonyCalls(LarkText& lark, Tools tools) {
  const std::string channel = lark.Marker("<|channel|>");
  const std::string message = lark.Marker("<|message|>");
  const std::string json =
      lark.Rule("(\" \"? " + lark.Marker("<|constrain|>") + " \"json\" | \" json\")?");
  std::vector<std::string> calls;
  for (const AdmittedTool& tool : tools) {
    calls.push_back(lark.Rule(LarkText::Quoted(tool.name) + " (" + channel + " \"commentary\")? " +
                              json + " " + message + " " + lark.Json(tool.arguments)));
  }
  CallSyntax syntax;
  syntax.rest = lark.Rule("\"functions.\" " + Either(calls) + " " + lark.Marker("<|call|>"));
  const std::string text = lark.Terminal("/(?s:.+)/");
  const std::string thought =
      lark.Rule(channel + " \"analysis\" " + message + " " + text + "? " + lark.Marker("<|end|>") +
                " " + lark.Marker("<|start|>") + " \"assistant\"");
  syntax.one = lark.Rule(thought + "* (" + channel +
                         " (\"commentary\" | \"analysis\"))? \" to=\" " + syntax.rest);
  syntax.many = syntax.one;
  syntax.openers.texts = {" to="};
  for (const auto& [marker, tokens] : {std::pair("<|start|>", &syntax.openers.within),
                                       {"<|channel|>", &syntax.openers.within},
                                       {"<|message|>", &syntax.openers.without}}) {
    if (const auto id = lark.TokenOf(marker)) {
      tokens->push_back(*id);
    }
  }
  return syntax;
}

}  // namespace mach::grammar
