#include "api/history.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "api/tool_fields.h"

namespace mach::api {
namespace {

constexpr size_t kQuotedLimit = 64;  // longest client text that an error message repeats

}  // namespace

void History::AddMessage(std::string_view role, std::string content) {
  messages_.push_back({{"role", role}, {"content", std::move(content)}});
}

void History::AddToolResult(const std::string& call_id, std::string content) {
  messages_.push_back(
      {{"role", "tool"}, {"tool_call_id", call_id}, {"content", std::move(content)}});
}

Json& History::NewTurn() {
  messages_.push_back({{"role", "assistant"}, {"content", ""}});
  return messages_.back();
}

Json& History::Turn() {
  const bool open = !messages_.empty() && messages_.back()["role"] == "assistant";
  return open ? messages_.back() : NewTurn();
}

void History::AddReasoning(const std::string& text) {
  Json* turn = &Turn();
  if (turn->contains("tool_calls") || (*turn)["content"] != "") {
    turn = &NewTurn();
  }
  Json& reasoning = (*turn)["reasoning_content"];
  if (reasoning.is_null()) {
    reasoning = "";
  }
  reasoning.get_ref<std::string&>() += text;
}

void History::AddText(const std::string& text, bool apart) {
  Json* turn = &Turn();
  if (apart && (turn->contains("tool_calls") || (*turn)["content"] != "")) {
    turn = &NewTurn();
  }
  (*turn)["content"].get_ref<std::string&>() += text;
}

void History::AddCall(const std::string& id, const std::string& name, Json arguments) {
  Json call = {{"id", id}, {"type", "function"}};
  call["function"] = {{"name", name}};
  call["function"]["arguments"] = std::move(arguments);
  Turn()["tool_calls"].push_back(std::move(call));
}

const std::string& RequiredString(const Json& object, const char* key, const std::string& path) {
  const auto it = object.find(key);
  const std::string field = path + "." + key;
  if (it == object.end() || !it->is_string()) {
    Reject("'" + field + "' is required and must be a string.", field);
  }
  return it->get_ref<const std::string&>();
}

void RejectType(const std::string& type, const std::string& path, const std::string& allowed) {
  Reject("'" + path + ".type' must be " + allowed +
             (type.size() <= kQuotedLimit ? ", not '" + type + "'." : "."),
         path + ".type");
}

const std::string& PartText(const Json& part, const std::string& path, IsTextType is_text) {
  if (!part.is_object()) {
    Reject("'" + path + "' must be an object.", path);
  }
  const std::string& type = RequiredString(part, "type", path);
  if (!is_text(type)) {
    RejectType(type, path, "that of a text: this model reads text only");
  }
  return RequiredString(part, type == "refusal" ? "refusal" : "text", path);
}

std::string JoinTexts(const Json& parts, const std::string& path, std::string_view separator,
                      IsTextType is_text) {
  if (parts.is_string()) {
    return parts.get<std::string>();
  }
  if (!parts.is_array()) {
    Reject("'" + path + "' must be a string or an array, not " + std::string(JsonTypeName(parts)) +
               ".",
           path);
  }
  std::string joined;
  for (size_t i = 0; i < parts.size(); ++i) {
    joined += i > 0 ? separator : "";
    joined += PartText(parts[i], path + "[" + std::to_string(i) + "]", is_text);
  }
  return joined;
}

Json FlatTool(const Json& tool, const char* schema_key, const std::string& path) {
  const std::string& name = RequiredString(tool, "name", path);
  if (!IsToolName(name)) {
    Reject("'" + path +
               ".name' must have 1 to 128 characters of A-Z, a-z, 0-9, '_', '.', ':' and '-'.",
           path + ".name");
  }
  const Fields fields(tool, path + ".");
  Json function = {{"name", name}};
  if (auto description = fields.String("description")) {
    function["description"] = std::move(*description);
  }
  if (const Json* schema = fields.Object(schema_key)) {
    function["parameters"] = *schema;
  }
  if (const auto strict = fields.Bool("strict")) {
    function["strict"] = *strict;
  }
  Json out = {{"type", "function"}};
  out["function"] = std::move(function);
  return out;
}

ToolChoice NamedTool(const Json& choice, const Json* tools) {
  ToolChoice named{.kind = ToolChoice::Kind::kNamed,
                   .name = RequiredString(choice, "name", "tool_choice")};
  const bool declared =
      tools != nullptr && std::any_of(tools->begin(), tools->end(), [&](const Json& tool) {
        return tool["function"]["name"] == named.name;
      });
  if (!declared) {
    Reject("'tool_choice.name' is none of the 'tools'.", "tool_choice.name");
  }
  return named;
}

void SetTools(Json tools, ToolChoice choice, const RequestLimits& limits, ChatRequest& request) {
  if (tools.size() > static_cast<size_t>(limits.max_tools)) {
    Reject("'tools' has " + std::to_string(tools.size()) + " tools; the maximum is " +
               std::to_string(limits.max_tools) + ".",
           "tools");
  }
  if (tools.empty()) {
    if (choice.kind == ToolChoice::Kind::kRequired) {
      Reject("'tool_choice' needs 'tools'.", "tool_choice");
    }
    return;
  }
  request.tool_choice = std::move(choice);
  request.tools = std::make_shared<const Json>(std::move(tools));
}

}  // namespace mach::api
