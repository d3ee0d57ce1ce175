// <tool_call> <function=NAME> <parameter=KEY> VALUE </parameter> … </function> </tool_call>, a tag
// a line. A value that is a string is written as it is: up to a closing tag that another parameter
// or the function's end follows, so that it may hold such tags. All others are JSON.
#include <algorithm>
#include <optional>

#include "grammar/formats/formats.h"
#include "grammar/text_until.h"

namespace mach::grammar {
namespace {

constexpr const char* kClose = "<\\/parameter>[ \\n]{0,2}";
constexpr const char* kFunctionEnd = "</function>";

// A closing tag and what follows it, whatever white space is between them.
MarkerSteps CloseAnd(const char* tag) {
  MarkerSteps steps = Spelled("</parameter>");
  steps.push_back({.character = "[ \\t\\r\\n]", .any_number = true});
  const MarkerSteps next = Spelled(tag);
  steps.insert(steps.end(), next.begin(), next.end());
  return steps;
}

// Values that are written as they are, with what ends them. None holds the tag of a declared
// parameter, which at the beginning of a line would end it too.
class TextValue {
 public:
  TextValue(LarkText& lark, const std::vector<Parameter>& parameters) {
    std::vector<MarkerSteps> markers = {CloseAnd("<parameter="), CloseAnd(kFunctionEnd),
                                        Spelled(kFunctionEnd)};
    std::vector<MarkerSteps> bound = {CloseAnd("<")};
    for (const Parameter& parameter : parameters) {
      markers.push_back(Spelled("<parameter=" + parameter.name + ">"));
      bound.push_back(markers.back());
    }
    const TextUntil text(lark, markers);
    const std::string end = text.Marker(2);
    // The function's end is text, or ends a value whose own closing tag is missing.
    const std::string whole = lark.Rule(text.text() + " (" + end + " " + text.text() + ")*");
    more_ = whole + " " + text.Marker(0);
    // Where it is a token, so is the call's.
    last_ = whole + " (" + text.Marker(1) + " | " + end + ")" +
            (lark.StandsApart("</tool_call>") ? "?" : "");
    const TextUntil bound_text(lark, bound);
    bound_ = bound_text.text() + " " + bound_text.Marker(0) + " \"parameter=\"";
  }

  const std::string& more() const { return more_; }
  const std::string& last() const { return last_; }
  // While arguments are missing, the function's end would be text here and an end to the parser,
  // and the model could never stop. So a closing tag that any other tag follows ends a value too,
  // and what follows is the next parameter.
  const std::string& bound() const { return bound_; }

 private:
  std::string more_;
  std::string last_;
  std::string bound_;
};

bool IsText(const Parameter& parameter) {
  return parameter.is_text && parameter.literals.empty();
}

std::string Call(LarkText& lark, const AdmittedTool& tool) {
  const std::vector<Parameter> parameters = Parameters(tool);
  std::optional<TextValue> text;
  if (std::any_of(parameters.begin(), parameters.end(), IsText)) {
    text.emplace(lark, parameters);
  }
  std::vector<LarkText::Member> members;
  for (const Parameter& parameter : parameters) {
    const std::string open = LarkText::Quoted(parameter.name + ">\n") + " ";
    LarkText::Member member{.required = parameter.required};
    if (IsText(parameter)) {
      member.more = open + text->more();
      member.last = open + text->last();
      member.bound = open + text->bound();
    } else {
      std::string value;
      if (parameter.is_text) {
        value = lark.OneOf(parameter.literals);
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
