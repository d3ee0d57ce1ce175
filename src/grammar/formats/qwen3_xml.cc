// <tool_call> <function=NAME> <parameter=KEY> VALUE </parameter> … </function> </tool_call>, a tag
// a line. A value that is a string is written as it is: up to a closing tag that another parameter
// or the function's end follows, so that it may hold such tags. All others are JSON.
#include "grammar/formats/formats.h"
#include "grammar/text_until.h"

namespace mach::grammar {
namespace {

constexpr const char* kClose = "<\\/parameter>[ \\n]{0,2}";

// A closing tag and what follows it.
MarkerSteps CloseAnd(const char* tag) {
  MarkerSteps steps = Spelled("</parameter>");
  steps.insert(steps.end(), 2, {.character = "[ \\n]", .optional = true});
  const MarkerSteps next = Spelled(tag);
  steps.insert(steps.end(), next.begin(), next.end());
  return steps;
}

std::string Call(LarkText& lark, const AdmittedTool& tool) {
  const std::vector<Parameter> parameters = Parameters(tool);
  // The first two end a value. At the beginning of a line the tag of another parameter would too:
  // a text holds none anywhere, so that line feeds need not be watched.
  std::vector<MarkerSteps> markers = {CloseAnd("<parameter="), CloseAnd("</function>")};
  bool has_text = false;
  for (const Parameter& parameter : parameters) {
    markers.push_back(Spelled("<parameter=" + parameter.name + ">"));
    has_text = has_text || (parameter.is_text && parameter.literals.empty());
  }
  std::string text_and_more;
  std::string text_and_last;
  if (has_text) {
    const TextUntil text(lark, markers);
    text_and_more = text.text() + " " + text.Marker(0);
    text_and_last = text.text() + " " + text.Marker(1);
  }
  std::vector<LarkText::Member> members;
  for (const Parameter& parameter : parameters) {
    const std::string open = LarkText::Quoted(parameter.name + ">\n") + " ";
    LarkText::Member member{.required = parameter.required};
    if (parameter.is_text && parameter.literals.empty()) {
      member.more = open + text_and_more;
      member.last = open + text_and_last;
    } else {
      std::string value;
      if (parameter.is_text) {
        std::vector<std::string> literals;
        for (const std::string& literal : parameter.literals) {
          literals.push_back(LarkText::Quoted(literal));
        }
        value = Either(literals);
      } else {
        value = lark.Json(parameter.schema);
      }
      member.more = open + value + " /\\n?" + kClose + "<parameter=/";
      member.last = open + value + " /\\n?" + kClose + "<\\/function>/";
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
