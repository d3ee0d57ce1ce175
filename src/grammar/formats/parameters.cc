#include <algorithm>

#include "grammar/formats/formats.h"

namespace mach::grammar {
namespace {

using Json = nlohmann::ordered_json;

// Whether a schema allows strings; one that says nothing of types does.
bool AllowsText(const Json& schema, const Json& defs, int depth = 0) {
  const Json& resolved = Resolved(schema, defs);
  if (!resolved.is_object() || depth > 8) {
    return true;
  }
  if (const auto it = resolved.find("type"); it != resolved.end()) {
    return *it == "string" ||
           (it->is_array() && std::find(it->begin(), it->end(), "string") != it->end());
  }
  if (const auto it = resolved.find("const"); it != resolved.end()) {
    return it->is_string();
  }
  if (const auto it = resolved.find("enum"); it != resolved.end()) {
    return std::any_of(it->begin(), it->end(), [](const Json& x) { return x.is_string(); });
  }
  for (const char* keyword : {"anyOf", "oneOf"}) {
    if (const auto it = resolved.find(keyword); it != resolved.end()) {
      return std::any_of(it->begin(), it->end(),
                         [&](const Json& x) { return AllowsText(x, defs, depth + 1); });
    }
  }
  if (const auto it = resolved.find("allOf"); it != resolved.end()) {
    return std::all_of(it->begin(), it->end(),
                       [&](const Json& x) { return AllowsText(x, defs, depth + 1); });
  }
  return true;
}

// All that a schema of text allows, if that is a list.
std::vector<std::string> Literals(const Json& schema) {
  Json values = Json::array();
  if (schema.is_object() && schema.contains("enum")) {
    values = schema["enum"];
  } else if (schema.is_object() && schema.contains("const")) {
    values.push_back(schema["const"]);
  }
  std::vector<std::string> literals;
  for (const Json& value : values) {
    literals.push_back(value.is_string() ? value.get<std::string>() : value.dump());
  }
  return literals;
}

}  // namespace

const Json& Resolved(const Json& schema, const Json& defs) {
  const Json* at = &schema;
  for (int hops = 0; hops < 8 && at->is_object() && at->contains("$ref"); ++hops) {
    const std::string name = (*at)["$ref"].get<std::string>().substr(8);  // behind "#/$defs/"
    if (!defs.is_object() || !defs.contains(name)) {
      break;
    }
    at = &defs[name];
  }
  return *at;
}

std::vector<Parameter> Parameters(const AdmittedTool& tool) {
  const Json defs = tool.arguments.value("$defs", Json::object());
  const Json& object = Resolved(tool.arguments, defs);
  const Json properties = object.value("properties", Json::object());
  const Json required = object.value("required", Json::array());
  std::vector<Parameter> parameters;
  const auto add = [&](const std::string& name, const Json& schema) {
    Parameter parameter{.name = name, .schema = schema};
    parameter.required = std::find(required.begin(), required.end(), name) != required.end();
    parameter.is_text = AllowsText(schema, defs);
    if (parameter.is_text) {
      parameter.literals = Literals(Resolved(schema, defs));
    }
    if (parameter.schema.is_boolean()) {
      parameter.schema = Json::object();
    }
    if (!defs.empty()) {
      parameter.schema["$defs"] = defs;
    }
    parameters.push_back(std::move(parameter));
  };
  for (const auto& [name, schema] : properties.items()) {
    if (schema != false) {
      add(name, schema);
    }
  }
  for (const Json& name : required) {
    if (!properties.contains(name.get<std::string>())) {
      add(name.get<std::string>(), Json::object());
    }
  }
  return parameters;
}

CallOpeners OpenedBy(const LarkText& lark, const std::string& marker) {
  CallOpeners openers;
  if (const auto id = lark.TokenOf(marker)) {
    openers.tokens.push_back(*id);
  } else {
    openers.texts.push_back(marker);
  }
  return openers;
}

}  // namespace mach::grammar
