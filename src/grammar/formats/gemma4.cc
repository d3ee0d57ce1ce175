// <|tool_call>call:NAME{key:value,…}<tool_call|>. Values look like JSON whose keys have no quotes
// and whose strings stand between <|"|> tokens, without any escaping. Members come in any order; of
// schemas, types, properties, items and lists of values are enforced.
#include <algorithm>
#include <map>
#include <set>

#include "grammar/formats/formats.h"
#include "grammar/text_until.h"

namespace mach::grammar {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kQuote = "<|\"|>";

class Gemma4Values {
 public:
  Gemma4Values(LarkText& lark, const Json& defs) : lark_(lark), defs_(defs) {
    const std::string quote = lark.Marker(kQuote);
    if (lark.StandsApart(kQuote)) {
      string_ = lark.Rule(quote + " " + lark.Terminal("/(?s:.+)/") + "? " + quote);
    } else {
      const TextUntil text(lark, {Spelled(kQuote)});
      string_ = lark.Rule(quote + " " + text.text() + " " + text.Marker(0));
    }
    number_ = lark.Terminal("/-?(0|[1-9][0-9]*)(\\.[0-9]+)?([eE][+-]?[0-9]+)?/");
    integer_ = lark.Terminal("/-?(0|[1-9][0-9]*)/");
  }

  std::string Value(const Json& schema, int depth = 0) {
    const Json& resolved = Resolved(schema, defs_);
    if (!resolved.is_object() || depth > kMaxDepth) {
      return Any();
    }
    if (resolved.contains("enum") || resolved.contains("const")) {
      const Json values =
          resolved.contains("enum") ? resolved["enum"] : Json::array({resolved["const"]});
      std::vector<std::string> literals;
      for (const Json& value : values) {
        literals.push_back(value.is_string() ? lark_.Marker(kQuote) + " " +
                                                   LarkText::Quoted(value.get<std::string>()) +
                                                   " " + lark_.Marker(kQuote)
                           : value.is_structured() ? Any()
                                                   : LarkText::Quoted(value.dump()));
      }
      return literals.empty() ? Any() : Either(literals);
    }
    for (const char* keyword : {"anyOf", "oneOf"}) {
      if (const auto it = resolved.find(keyword); it != resolved.end()) {
        std::vector<std::string> options;
        for (const Json& option : *it) {
          options.push_back(Value(option, depth + 1));
        }
        return Either(options);
      }
    }
    const auto type = resolved.find("type");
    if (type == resolved.end()) {
      return resolved.contains("properties") ? Object(resolved, depth) : Any();
    }
    std::vector<std::string> options;
    for (const Json& name : type->is_array() ? *type : Json::array({*type})) {
      options.push_back(OfType(name.get<std::string>(), resolved, depth));
    }
    return Either(options);
  }

  std::string Object(const Json& schema, int depth) {
    const Json properties = schema.value("properties", Json::object());
    const Json required = schema.value("required", Json::array());
    if (properties.empty() && schema.value("additionalProperties", Json(true)) != false) {
      return AnyObject();
    }
    std::vector<LarkText::Member> members;
    for (const auto& [name, member] : properties.items()) {
      if (member != false) {
        const std::string item =
            lark_.Rule(LarkText::Quoted(name + ":") + " " + Value(member, depth + 1));
        members.push_back(
            {.more = item + " \",\"",
             .last = item,
             .required = std::find(required.begin(), required.end(), name) != required.end()});
      }
    }
    return lark_.Rule("\"{\" " + lark_.AnyOrder(members) + " \"}\"");
  }

 private:
  static constexpr int kMaxDepth = 6;

  std::string OfType(const std::string& type, const Json& schema, int depth) {
    if (type == "string") {
      return string_;
    }
    if (type == "integer") {
      return integer_;
    }
    if (type == "number") {
      return number_;
    }
    if (type == "boolean") {
      return "(\"true\" | \"false\")";
    }
    if (type == "null") {
      return "\"null\"";
    }
    if (type == "object") {
      return Object(schema, depth);
    }
    const std::string item = Value(schema.value("items", Json::object()), depth + 1);
    return lark_.Rule("\"[\" (" + item + " (\",\" " + item + ")*)? \"]\"");
  }

  const std::string& Any() {
    if (any_.empty()) {
      any_ = lark_.Recursive([&](const std::string& any) {
        const std::string member = lark_.Rule(lark_.Terminal("/[A-Za-z0-9_.$-]+:/") + " " + any);
        any_object_ = lark_.Rule("\"{\" (" + member + " (\",\" " + member + ")*)? \"}\"");
        return string_ + " | " + number_ + " | \"true\" | \"false\" | \"null\" | \"[\" (" + any +
               " (\",\" " + any + ")*)? \"]\" | " + any_object_;
      });
    }
    return any_;
  }
  const std::string& AnyObject() {
    Any();
    return any_object_;
  }

  LarkText& lark_;
  const Json& defs_;
  std::string string_;
  std::string number_;
  std::string integer_;
  std::string any_;
  std::string any_object_;
};

}  // namespace

CallSyntax Gemma4Calls(LarkText& lark, Tools tools) {
  std::vector<std::string> calls;
  for (const AdmittedTool& tool : tools) {
    const Json defs = tool.arguments.value("$defs", Json::object());
    Gemma4Values values(lark, defs);
    calls.push_back(lark.Rule(LarkText::Quoted(tool.name) + " " +
                              values.Object(Resolved(tool.arguments, defs), 0)));
  }
  CallSyntax syntax;
  syntax.rest = lark.Rule("\"call:\" " + Either(calls) + " " + lark.Marker("<tool_call|>"));
  syntax.one = lark.Rule(lark.Marker("<|tool_call>") + " " + syntax.rest);
  syntax.many = lark.Rule(syntax.one + "+");
  syntax.openers = OpenedBy(lark, "<|tool_call>");
  return syntax;
}

}  // namespace mach::grammar
