#include "grammar/tool_grammar.h"

#include <utility>
#include <vector>

#include "base/error.h"
#include "grammar/call_watch.h"
#include "grammar/formats/formats.h"
#include "grammar/lark_text.h"
#include "grammar/schema_gate.h"

namespace mach::grammar {
namespace {

using Json = nlohmann::ordered_json;

Json AnyObject() {
  return {{"type", "object"}};
}

// Of the arguments of a tool; any object where the schema is none.
Json Admitted(const Tool& tool) {
  if (tool.parameters.is_null()) {
    return {{"type", "object"}, {"additionalProperties", false}};
  }
  try {
    Json admitted = Admit(tool.parameters, Keywords::kRelax);
    admitted["type"] = "object";
    return admitted;
  } catch (const Error&) {
    return AnyObject();
  }
}

// The same members with any values.
Json Loosened(const Json& arguments) {
  Json loose = AnyObject();
  const Json properties = arguments.value("properties", Json::object());
  for (const auto& [name, schema] : properties.items()) {
    loose["properties"][name] = Json::object();
  }
  if (const auto required = arguments.find("required"); required != arguments.end()) {
    loose["required"] = *required;
  }
  return loose;
}

CallSyntax Syntax(LarkText& lark, CallFormat format, Tools tools) {
  switch (format) {
    case CallFormat::kHermes:
      return HermesCalls(lark, tools);
    case CallFormat::kQwen3Coder:
      return Qwen3XmlCalls(lark, tools);
    case CallFormat::kHarmony:
      return HarmonyCalls(lark, tools);
    case CallFormat::kDeepseekV32:
      return DsmlCalls(lark, tools, "function_calls", "");
    case CallFormat::kDeepseekV4:
      return DsmlCalls(lark, tools, "tool_calls", "");
    case CallFormat::kDeepseekV41:
      return DsmlCalls(lark, tools, "calls", " ");
    case CallFormat::kGemma4:
      return Gemma4Calls(lark, tools);
    case CallFormat::kNone:
      break;
  }
  throw Error(ErrorCode::kInternal, "no such format of tool calls");
}

// Calls `compile` with the admitted tools. Where that fails, those that it fails with alone are
// relaxed until it does not; where it still fails, all tools take any object.
template <typename F>
auto WithTools(std::span<const Tool> tools, const F& compile) {
  if (tools.empty()) {
    throw Error(ErrorCode::kInvalidArgument, "a call needs a tool");
  }
  std::vector<AdmittedTool> admitted;
  for (const Tool& tool : tools) {
    admitted.push_back({tool.name, Admitted(tool)});
  }
  const auto attempt = [&compile](Tools some) -> decltype(compile(some)) {
    try {
      return compile(some);
    } catch (const Error&) {
      return nullptr;
    }
  };
  if (auto grammar = attempt(admitted)) {
    return grammar;
  }
  for (AdmittedTool& tool : admitted) {
    for (const Json& looser : {Loosened(tool.arguments), AnyObject()}) {
      if (attempt({&tool, 1})) {
        break;
      }
      tool.arguments = looser;
    }
  }
  if (auto grammar = attempt(admitted)) {
    return grammar;
  }
  for (AdmittedTool& tool : admitted) {
    tool.arguments = AnyObject();
  }
  return compile(admitted);
}

}  // namespace

std::shared_ptr<const Grammar> CompileCalls(Compiler& compiler, CallFormat format,
                                            std::span<const Tool> tools, CallCount count) {
  return WithTools(tools, [&](Tools admitted) {
    LarkText lark(compiler);
    const CallSyntax syntax = Syntax(lark, format, admitted);
    // Behind the reasoning, most templates have line ends.
    const std::string lead = lark.Terminal("/ |\\n{1,2}/");
    return compiler.Compile(
        Spec::Lark(lark.Text(lead + "? " + (count == CallCount::kOne ? syntax.one : syntax.many))));
  });
}

std::shared_ptr<const Grammar> CompileFreeText(Compiler& compiler, CallFormat format,
                                               std::span<const Tool> tools) {
  return WithTools(tools, [&](Tools admitted) {
    LarkText lark(compiler);
    CallSyntax syntax = Syntax(lark, format, admitted);
    return WatchForCalls(compiler.tokenizer(), std::move(syntax.openers),
                         compiler.Compile(Spec::Lark(lark.Text(syntax.rest))));
  });
}

}  // namespace mach::grammar
