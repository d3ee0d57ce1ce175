#include "api/tool_fields.h"

#include <algorithm>
#include <memory>
#include <string>

namespace mach::api {
namespace {

constexpr size_t kMaxNameBytes = 128;
constexpr size_t kQuotedLimit = 64;  // longest client text that an error message repeats

std::string Quoted(std::string_view name) {
  return name.size() <= kQuotedLimit ? ", not '" + std::string(name) + "'" : "";
}

// The member `key` of `object`, which is required.
const Json& Required(const Json& object, const char* key, const std::string& path, bool is_string) {
  const auto it = object.find(key);
  const std::string field = path + "." + key;
  if (it == object.end() || (is_string ? !it->is_string() : !it->is_object())) {
    Reject("'" + field + "' is required and must be " + (is_string ? "a string." : "an object."),
           field);
  }
  return *it;
}

void CheckType(const Json& object, const std::string& path) {
  const auto& type = Required(object, "type", path, true).get_ref<const std::string&>();
  if (type != "function") {
    Reject("'" + path + ".type' must be \"function\"" + Quoted(type) + ".", path + ".type");
  }
}

const std::string& ReadName(const Json& function, const std::string& path) {
  const auto& name = Required(function, "name", path, true).get_ref<const std::string&>();
  if (!IsToolName(name)) {
    Reject("'" + path +
               ".name' must have 1 to 128 characters of A-Z, a-z, 0-9, '_', '.', ':' and "
               "'-'" +
               Quoted(name) + ".",
           path + ".name");
  }
  return name;
}

void CheckTool(const Json& tool, const std::string& path) {
  if (!tool.is_object()) {
    Reject("'" + path + "' must be an object, not " + std::string(JsonTypeName(tool)) + ".", path);
  }
  CheckType(tool, path);
  const Json& function = Required(tool, "function", path, false);
  const Fields fields(function, path + ".function.");
  ReadName(function, path + ".function");
  fields.String("description");
  fields.Object("parameters");
  fields.Bool("strict");
}

bool Declares(const Json& tools, std::string_view name) {
  return std::any_of(tools.begin(), tools.end(),
                     [&](const Json& tool) { return tool["function"]["name"] == name; });
}

ToolChoice ReadChoice(const Fields& fields, const Json* tools) {
  const Json* value = fields.Find("tool_choice");
  if (value == nullptr) {
    return {.kind = tools != nullptr ? ToolChoice::Kind::kAuto : ToolChoice::Kind::kNone,
            .name = ""};
  }
  ToolChoice choice;
  if (value->is_string()) {
    const auto& text = value->get_ref<const std::string&>();
    if (text == "none") {
      return choice;
    }
    if (text != "auto" && text != "required") {
      Reject(
          "'tool_choice' must be one of none, auto, required or an object that names a function" +
              Quoted(text) + ".",
          "tool_choice");
    }
    choice.kind = text == "auto" ? ToolChoice::Kind::kAuto : ToolChoice::Kind::kRequired;
  } else if (value->is_object()) {
    CheckType(*value, "tool_choice");
    choice.kind = ToolChoice::Kind::kNamed;
    choice.name =
        ReadName(Required(*value, "function", "tool_choice", false), "tool_choice.function");
  } else {
    Reject("'tool_choice' must be a string or an object, not " + std::string(JsonTypeName(*value)) +
               ".",
           "tool_choice");
  }
  if (tools == nullptr) {
    Reject("'tool_choice' needs 'tools'.", "tool_choice");
  }
  if (choice.kind == ToolChoice::Kind::kNamed && !Declares(*tools, choice.name)) {
    Reject("'tool_choice.function.name' is none of the 'tools'" + Quoted(choice.name) + ".",
           "tool_choice.function.name");
  }
  return choice;
}

}  // namespace

bool IsToolName(std::string_view name) {
  return !name.empty() && name.size() <= kMaxNameBytes &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '_' || c == '.' || c == ':' || c == '-';
         });
}

void ParseTools(const Fields& fields, const RequestLimits& limits, ChatRequest& request) {
  const Json* tools = fields.Array("tools");
  if (tools != nullptr) {
    if (tools->empty()) {
      Reject("'tools' must have at least one tool; leave it out for none.", "tools");
    }
    if (tools->size() > static_cast<size_t>(limits.max_tools)) {
      Reject("'tools' has " + std::to_string(tools->size()) + " tools; the maximum is " +
                 std::to_string(limits.max_tools) + ".",
             "tools");
    }
    for (size_t i = 0; i < tools->size(); ++i) {
      CheckTool((*tools)[i], "tools[" + std::to_string(i) + "]");
    }
  }
  request.tool_choice = ReadChoice(fields, tools);
  if (tools != nullptr) {
    request.tools = std::make_shared<const Json>(*tools);
  }
  request.parallel_tool_calls = fields.Bool("parallel_tool_calls").value_or(true);
}

ResponseFormat ParseResponseFormat(const Fields& fields) {
  ResponseFormat format;
  const Json* value = fields.Object("response_format");
  if (value == nullptr) {
    return format;
  }
  const auto& type =
      Required(*value, "type", "response_format", true).get_ref<const std::string&>();
  if (type == "json_object") {
    format.kind = ResponseFormat::Kind::kJsonObject;
  } else if (type == "json_schema") {
    const Json& named = Required(*value, "json_schema", "response_format", false);
    const auto schema = named.find("schema");
    format.path = "response_format.json_schema.schema";
    if (schema == named.end() || !(schema->is_object() || schema->is_boolean())) {
      Reject("'" + format.path + "' is required and must be an object.", format.path);
    }
    const Fields nested(named, "response_format.json_schema.");
    nested.String("name");
    nested.Bool("strict");
    format.kind = ResponseFormat::Kind::kJsonSchema;
    format.schema = std::make_shared<const Json>(*schema);
  } else if (type != "text") {
    Reject(
        "'response_format.type' must be one of text, json_object, json_schema" + Quoted(type) + ".",
        "response_format.type");
  }
  return format;
}

}  // namespace mach::api
