// <tool_call> <function=NAME> <parameter=KEY> VALUE </parameter> … </function> </tool_call>, a tag
// a line. A value that is a string is written as it is: up to a closing tag that another parameter
// or the function's end follows, so that it may hold such tags. All others are JSON.
#include "grammar/formats/formats.h"

namespace mach::grammar {
namespace {

constexpr const char* kClose = "<\\/parameter>[ \\n]{0,2}";

std::string Call(LarkText& lark, const AdmittedTool& tool) {
  const std::string more = std::string(kClose) + "<parameter=";
  const std::string last = std::string(kClose) + "<\\/function>";
  const std::vector<Parameter> parameters = Parameters(tool);
  // At the beginning of a line the tag of another parameter would end a value too.
  std::string keys;
  for (const Parameter& parameter : parameters) {
    keys += (keys.empty() ? "" : "|") + LarkText::Escaped(parameter.name);
  }
  const std::string no_tag = " & ~/(?s:.*)\\n<parameter=(" + keys + ")>(?s:.*)/";
  std::vector<LarkText::Member> members;
  for (const Parameter& parameter : parameters) {
    const std::string open = LarkText::Quoted(parameter.name + ">\n") + " ";
    LarkText::Member member{.required = parameter.required};
    if (parameter.is_text && parameter.literals.empty()) {
      member.more = open + lark.Lazy("/(?s:.*)" + more + "/" + no_tag);
      member.last = open + lark.Lazy("/(?s:.*)" + last + "/" + no_tag);
    } else {
      std::string value;
      if (parameter.is_text) {
        value = lark.OneOf(parameter.literals);
      } else {
        value = lark.Json(parameter.schema);
      }
      member.more = open + value + " /\\n?" + more + "/";
      member.last = open + value + " /\\n?" + last + "/";
    }
    members.push_back(std::move(member));
  }
  std::string body = "\"<parameter=\" " + lark.AnyOrder(members);
  bool required = false;
  for (const Parameter& parameter : parameters) {
    required = required || parameter.required;
  }
  if (parameters.empty()) {
    body = "\"</function>\"";
  } else if (!required) {
    body = "(\"</function>\" | " + body + ")";
  }
  return lark.Rule(LarkText::Quoted(tool.name + ">\n") + " " + body);
}

}  // namespace

CallSyntax Qwen3XmlCalls(LarkText& lark, Tools tools) {
  std::vector<std::string> calls;
  for (const AdmittedTool& tool : tools) {
    calls.push_back(Call(lark, tool));
  }
  CallSyntax syntax;
  syntax.rest = lark.Rule("\"\\n\"? \"<function=\" " + Either(calls) + " \"\\n\"? " +
                          lark.Marker("</tool_call>"));
  syntax.one = lark.Rule(lark.Marker("<tool_call>") + " " + syntax.rest);
  syntax.many = lark.Rule(syntax.one + " (\"\\n\"? " + syntax.one + ")*");
  syntax.openers = OpenedBy(lark, "<tool_call>");
  return syntax;
}

}  // namespace mach::grammar
