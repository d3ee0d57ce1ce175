// DeepSeek's calls: tags like XML whose names carry a special token. A value ends at `</` and that
// token, however the rest of the tag is spelled.
#include "grammar/formats/formats.h"
#include "grammar/text_until.h"

namespace mach::grammar {
namespace {

constexpr const char* kMark = "｜DSML｜";

class Dsml {
 public:
  Dsml(LarkText& lark, std::string space)
      : lark_(lark), space_(std::move(space)), mark_(lark.Marker(kMark)) {
    if (lark.StandsApart(kMark)) {
      text_end_ = lark.Terminal("/(?s:.*)<\\//") + " " + mark_;
    } else {
      const TextUntil text(lark, {Spelled(std::string("</") + kMark)});
      text_end_ = text.text() + " " + text.Marker(0);
    }
  }

  // What comes behind the `<` and the token, or the `</` and the token, of a tag.
  std::string Open(const std::string& tag) const {
    return "\"<\" " + mark_ + " " + LarkText::Quoted(space_ + tag) + " ";
  }
  std::string Close(const std::string& tag) const {
    return "\"</\" " + mark_ + " " + LarkText::Quoted(space_ + tag) + " ";
  }

  std::string Invoke(const AdmittedTool& tool) {
    std::vector<LarkText::Member> members;
    for (const Parameter& parameter : Parameters(tool)) {
      std::string value;
      if (parameter.is_text && parameter.literals.empty()) {
        value = text_end_;
      } else if (parameter.is_text) {
        value = lark_.OneOf(parameter.literals) + " \"</\" " + mark_;
      } else {
        value = lark_.Json(parameter.schema) + " \"</\" " + mark_;
      }
      const std::string item = Open("parameter name=\"" + parameter.name + "\" string=\"" +
                                    (parameter.is_text ? "true" : "false") + "\">") +
                               value + " " + LarkText::Quoted(space_ + "parameter>\n");
      const std::string rule = lark_.Rule(item);
      members.push_back({.more = rule, .last = rule, .required = parameter.required});
    }
    return lark_.Rule(Open("invoke name=\"" + tool.name + "\">\n") + lark_.AnyOrder(members) + " " +
                      Close("invoke>\n"));
  }

 private:
  LarkText& lark_;
  const std::string space_;
  const std::string mark_;
  std::string text_end_;  // a value and the beginning of the tag that ends it
};

}  // namespace

CallSyntax DsmlCalls(LarkText& lark, Tools tools, const std::string& wrapper,
                     const std::string& space) {
  Dsml dsml(lark, space);
  std::vector<std::string> invokes;
  for (const AdmittedTool& tool : tools) {
    invokes.push_back(dsml.Invoke(tool));
  }
  const std::string invoke = lark.Rule(Either(invokes));
  const std::string open = LarkText::Quoted(space + wrapper + ">\n") + " ";
  const std::string close = dsml.Close(wrapper + ">");
  CallSyntax syntax;
  syntax.rest = lark.Rule(open + invoke + "+ " + close);
  syntax.one = lark.Rule("\"<\" " + lark.Marker(kMark) + " " + open + invoke + " " + close);
  syntax.many = lark.Rule("\"<\" " + lark.Marker(kMark) + " " + syntax.rest);
  syntax.openers.texts = {std::string("<") + kMark};
  return syntax;
}

}  // namespace mach::grammar
