// The body of /v1/messages, Anthropic's.
#include <memory>
#include <utility>

#include "api/common_fields.h"
#include "api/history.h"
#include "api/messages.h"

namespace mach::api {
namespace {

// Claude Code begins its system prompt with a line for the bill, which would only keep prompts from
// beginning alike.
constexpr std::string_view kBillingHeader = "x-anthropic-billing-header:";

bool IsText(std::string_view type) {
  return type == "text";
}

// Blocks of text, joined.
std::string ReadSystem(const Json& system) {
  if (!system.is_array()) {
    return JoinTexts(system, "system", "", IsText);
  }
  std::string joined;
  for (size_t i = 0; i < system.size(); ++i) {
    const std::string& text = PartText(system[i], "system[" + std::to_string(i) + "]", IsText);
    if (!text.starts_with(kBillingHeader)) {
      joined += joined.empty() ? "" : "\n\n";
      joined += text;
    }
  }
  return joined;
}

std::string ReadResult(const Json& block, const std::string& path) {
  const Fields fields(block, path + ".");
  const Json* content = fields.Find("content");
  std::string text = content == nullptr ? "" : JoinTexts(*content, path + ".content", "\n", IsText);
  // Templates have no mark for it.
  return fields.Bool("is_error").value_or(false) ? "Error: " + text : text;
}

// Results come before what the user says beside them, as models were trained on.
void ReadUserBlock(const Json& block, const std::string& path, std::string& text,
                   History& history) {
  const std::string& type = RequiredString(block, "type", path);
  if (type == "tool_result") {
    history.AddToolResult(RequiredString(block, "tool_use_id", path), ReadResult(block, path));
  } else if (type == "text") {
    text += text.empty() ? "" : "\n";
    text += RequiredString(block, "text", path);
  } else {
    RejectType(type, path, "\"text\" or \"tool_result\": this model reads text only");
  }
}

void ReadAssistantBlock(const Json& block, const std::string& path, History& history) {
  const std::string& type = RequiredString(block, "type", path);
  if (type == "text") {
    history.AddText(RequiredString(block, "text", path), /*apart=*/false);
  } else if (type == "thinking") {
    history.AddReasoning(RequiredString(block, "thinking", path));
  } else if (type == "tool_use") {
    const std::string& name = RequiredString(block, "name", path);
    const Json* input = Fields(block, path + ".").Object("input");
    history.AddCall(RequiredString(block, "id", path), name,
                    input == nullptr ? Json::object() : *input);
  } else if (type != "redacted_thinking") {  // which nobody can read
    RejectType(type, path, "one of text, thinking, redacted_thinking, tool_use");
  }
}

void ReadMessage(const Json& message, const std::string& path, History& history) {
  if (!message.is_object()) {
    Reject("'" + path + "' must be an object, not " + std::string(JsonTypeName(message)) + ".",
           path);
  }
  const std::string& role = RequiredString(message, "role", path);
  const auto content = message.find("content");
  const std::string content_path = path + ".content";
  if (content == message.end() || !(content->is_string() || content->is_array())) {
    Reject("'" + content_path + "' is required and must be a string or an array of blocks.",
           content_path);
  }
  if (role == "system") {
    history.AddMessage(role, JoinTexts(*content, content_path, "\n", IsText));
    return;
  }
  if (role != "user" && role != "assistant") {
    Reject("'" + path + ".role' must be one of user, assistant, system.", path + ".role");
  }
  if (content->is_string()) {
    history.AddMessage(role, content->get<std::string>());
    return;
  }
  std::string text;
  bool said = content->empty();
  for (size_t i = 0; i < content->size(); ++i) {
    const Json& block = (*content)[i];
    const std::string item = content_path + "[" + std::to_string(i) + "]";
    if (!block.is_object()) {
      Reject("'" + item + "' must be an object.", item);
    }
    if (role == "assistant") {
      ReadAssistantBlock(block, item, history);
    } else {
      ReadUserBlock(block, item, text, history);
      said = said || block["type"] == "text";
    }
  }
  if (role == "user" && said) {
    history.AddMessage(role, std::move(text));
  }
}

Json ReadMessages(const Fields& fields) {
  History history;
  if (const Json* system = fields.Find("system")) {
    std::string text = ReadSystem(*system);
    if (!text.empty()) {
      history.AddMessage("system", std::move(text));
    }
  }
  const Json* messages = fields.Array("messages");
  if (messages == nullptr || messages->empty()) {
    Reject("'messages' is required and must have at least one message.", "messages");
  }
  for (size_t i = 0; i < messages->size(); ++i) {
    ReadMessage((*messages)[i], "messages[" + std::to_string(i) + "]", history);
  }
  return history.Take();
}

constexpr const char* kNoOwnTools = "\"custom\": this server runs no tools of its own";

// Anthropic's search is the only tool of theirs that clients are known to declare beside their own,
// whatever the server. Where there is nothing else, the search is what they want.
Json ReadTools(const Fields& fields, std::vector<std::string>& ignored) {
  Json out = Json::array();
  const Json* tools = fields.Array("tools");
  for (size_t i = 0; tools != nullptr && i < tools->size(); ++i) {
    const Json& tool = (*tools)[i];
    const std::string path = "tools[" + std::to_string(i) + "]";
    if (!tool.is_object()) {
      Reject("'" + path + "' must be an object.", path);
    }
    const std::string type = Fields(tool, path + ".").String("type").value_or("custom");
    if (type.starts_with("web_search_")) {
      ignored.push_back(type);
      continue;
    }
    if (type != "custom") {
      RejectType(type, path, kNoOwnTools);
    }
    if (tool.find("input_schema") == tool.end()) {
      Reject("'" + path + ".input_schema' is required and must be an object.",
             path + ".input_schema");
    }
    out.push_back(FlatTool(tool, "input_schema", path));
  }
  if (out.empty() && !ignored.empty()) {
    RejectType(ignored.front(), "tools[0]", kNoOwnTools);
  }
  return out;
}

ToolChoice ReadChoice(const Fields& fields, const Json& tools, ChatRequest& request) {
  const Json* choice = fields.Object("tool_choice");
  if (choice == nullptr) {
    return {.kind = ToolChoice::Kind::kAuto, .name = ""};
  }
  request.parallel_tool_calls =
      !Fields(*choice, "tool_choice.").Bool("disable_parallel_tool_use").value_or(false);
  const std::string& type = RequiredString(*choice, "type", "tool_choice");
  if (type == "tool") {
    return NamedTool(*choice, &tools);
  }
  if (type == "auto" || type == "none") {
    return {.kind = type == "auto" ? ToolChoice::Kind::kAuto : ToolChoice::Kind::kNone, .name = ""};
  }
  if (type != "any") {
    RejectType(type, "tool_choice", "one of auto, any, tool, none");
  }
  return {.kind = ToolChoice::Kind::kRequired, .name = ""};
}

// thinking and output_config.effort.
Json ReadThinking(const Fields& fields, ChatRequest& request) {
  Json variables = Json::object();
  if (const Json* thinking = fields.Object("thinking")) {
    const Fields nested(*thinking, "thinking.");
    const std::string& type = RequiredString(*thinking, "type", "thinking");
    if (type == "enabled") {
      variables["enable_thinking"] = true;
      request.thinking_budget = nested.Integer("budget_tokens", 0, INT64_MAX);
    } else if (type == "disabled") {
      variables["enable_thinking"] = false;
    } else if (type != "adaptive" && type != "between_tools") {  // as the model does by itself
      RejectType(type, "thinking", "one of enabled, disabled, adaptive, between_tools");
    }
    request.include_reasoning = nested.String("display").value_or("") != "omitted";
  }
  if (const Json* config = fields.Object("output_config")) {
    if (const auto effort = Fields(*config, "output_config.").String("effort")) {
      ApplyEffort(*effort, "output_config.effort", variables);
    }
  }
  return variables;
}

ResponseFormat ReadFormat(const Fields& fields) {
  ResponseFormat out;
  const Json* config = fields.Object("output_config");
  const Json* format =
      config == nullptr ? nullptr : Fields(*config, "output_config.").Object("format");
  std::string path = "output_config.format";
  if (format == nullptr) {
    format = fields.Object("output_format");
    path = "output_format";
  }
  if (format == nullptr) {
    return out;
  }
  const std::string& type = RequiredString(*format, "type", path);
  if (type != "json_schema") {
    RejectType(type, path, "\"json_schema\"");
  }
  const Json* schema = Fields(*format, path + ".").Object("schema");
  out.path = path + ".schema";
  if (schema == nullptr) {
    Reject("'" + out.path + "' is required and must be an object.", out.path);
  }
  out.kind = ResponseFormat::Kind::kJsonSchema;
  out.schema = std::make_shared<const Json>(*schema);
  return out;
}

void ReadSampling(const Fields& fields, const RequestLimits& limits, CommonFields& common) {
  common.model = fields.String("model").value_or("");
  common.stream = fields.Bool("stream").value_or(false);
  common.sampling.temperature =
      fields.Number("temperature", 0, std::numeric_limits<double>::infinity());
  common.sampling.top_p = fields.Number("top_p", 0, 1, /*exclusive_min=*/true);
  if (const auto top_k = fields.Integer("top_k", 0, INT32_MAX)) {
    common.sampling.top_k = static_cast<int32_t>(*top_k);
  }
  common.stop.max_tokens = fields.Integer("max_tokens", 1, INT64_MAX);
  common.stop.strings = ParseStopStrings(fields, "stop_sequences", limits);
}

ChatRequest Read(std::string body, const RequestLimits& limits, bool generates) {
  const Json document = ParseObject(std::move(body));
  const Fields fields(document, "");
  fields.RefuseUnless("mcp_servers", Json::array());
  ChatRequest request;
  ReadSampling(fields, limits, request.common);
  if (generates && !request.common.stop.max_tokens) {
    Reject("'max_tokens' is required.", "max_tokens");
  }
  Json tools = ReadTools(fields, request.ignored_tools);
  ToolChoice choice = ReadChoice(fields, tools, request);
  SetTools(std::move(tools), std::move(choice), limits, request);
  request.response_format = ReadFormat(fields);
  request.template_variables = std::make_shared<Json>(ReadThinking(fields, request));
  request.messages = std::make_shared<Json>(NormaliseMessages(ReadMessages(fields)));
  return request;
}

}  // namespace

ChatRequest ParseMessagesRequest(std::string body, const RequestLimits& limits) {
  return Read(std::move(body), limits, /*generates=*/true);
}

ChatRequest ParseCountTokensRequest(std::string body, const RequestLimits& limits) {
  return Read(std::move(body), limits, /*generates=*/false);
}

}  // namespace mach::api
