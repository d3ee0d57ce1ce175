// The body of /v1/responses, OpenAI's, as far as it needs no memory of earlier ones.
#include <algorithm>
#include <array>
#include <memory>
#include <utility>

#include "api/common_fields.h"
#include "api/history.h"
#include "api/messages.h"

namespace mach::api {
namespace {

// Tools that Codex declares beside its functions, whatever the server. A model that is not told of
// them does its work without.
constexpr std::array<std::string_view, 7> kIgnoredTools = {
    "custom",      "image_generation", "local_shell",       "namespace",
    "tool_search", "web_search",       "web_search_preview"};

bool IsText(std::string_view type) {
  return type == "input_text" || type == "output_text" || type == "text" || type == "refusal";
}

bool IsReasoningText(std::string_view type) {
  return type == "reasoning_text" || type == "summary_text" || type == "text";
}

void RefuseState(const Fields& fields) {
  for (const char* key : {"previous_response_id", "conversation"}) {
    if (fields.Find(key) != nullptr) {
      Reject("'" + std::string(key) + "' is not supported: this server keeps no responses. Send " +
                 "the whole history as 'input'.",
             key);
    }
  }
  fields.RefuseUnless("background", false);
  fields.RefuseUnless("prompt", nullptr);
  fields.RefuseUnless("top_logprobs", 0);
  if (const Json* include = fields.Array("include")) {
    const auto logprobs =
        std::find(include->begin(), include->end(), "message.output_text.logprobs");
    if (logprobs != include->end()) {
      Reject("'include' asks for logprobs, which this endpoint does not have; " +
                 std::string("/v1/chat/completions does."),
             "include");
    }
  }
}

void ReadMessage(const Json& item, const std::string& path, History& history) {
  const std::string& role = RequiredString(item, "role", path);
  if (role != "user" && role != "assistant" && role != "system" && role != "developer") {
    Reject("'" + path + ".role' must be one of user, assistant, system, developer.",
           path + ".role");
  }
  const auto content = item.find("content");
  if (content == item.end()) {
    Reject("'" + path + ".content' is required.", path + ".content");
  }
  std::string text = JoinTexts(*content, path + ".content", "\n", IsText);
  if (role == "assistant") {
    history.AddText(text, /*apart=*/true);
  } else {
    history.AddMessage(role, std::move(text));
  }
}

// Its text, or a summary of it; what is encrypted is for who wrote it.
void ReadReasoning(const Json& item, const std::string& path, History& history) {
  const Fields fields(item, path + ".");
  for (const char* key : {"content", "summary"}) {
    const Json* parts = fields.Array(key);
    if (parts != nullptr && !parts->empty()) {
      history.AddReasoning(JoinTexts(*parts, fields.Path(key), "\n", IsReasoningText));
      return;
    }
  }
}

void ReadItem(const Json& item, const std::string& path, History& history) {
  if (!item.is_object()) {
    Reject("'" + path + "' must be an object, not " + std::string(JsonTypeName(item)) + ".", path);
  }
  const std::string type = Fields(item, path + ".").String("type").value_or("message");
  if (type == "message") {
    ReadMessage(item, path, history);
  } else if (type == "reasoning") {
    ReadReasoning(item, path, history);
  } else if (type == "function_call") {
    const std::string& name = RequiredString(item, "name", path);
    history.AddCall(RequiredString(item, "call_id", path), name,
                    RequiredString(item, "arguments", path));
  } else if (type == "function_call_output") {
    const std::string& id = RequiredString(item, "call_id", path);
    const auto output = item.find("output");
    if (output == item.end()) {
      Reject("'" + path + ".output' is required.", path + ".output");
    }
    history.AddToolResult(id, JoinTexts(*output, path + ".output", "\n", IsText));
  } else {
    RejectType(type, path, "one of message, reasoning, function_call, function_call_output");
  }
}

Json ReadInput(const Fields& fields) {
  History history;
  if (auto instructions = fields.String("instructions")) {
    history.AddMessage("system", std::move(*instructions));
  }
  const Json* input = fields.Find("input");
  if (input != nullptr && input->is_string()) {
    history.AddMessage("user", input->get<std::string>());
    return history.Take();
  }
  if (input == nullptr || !input->is_array() || input->empty()) {
    Reject("'input' is required and must be a string or an array with at least one item.", "input");
  }
  for (size_t i = 0; i < input->size(); ++i) {
    ReadItem((*input)[i], "input[" + std::to_string(i) + "]", history);
  }
  return history.Take();
}

Json ReadTools(const Fields& fields, std::vector<std::string>& ignored) {
  Json out = Json::array();
  const Json* tools = fields.Array("tools");
  for (size_t i = 0; tools != nullptr && i < tools->size(); ++i) {
    const Json& tool = (*tools)[i];
    const std::string path = "tools[" + std::to_string(i) + "]";
    if (!tool.is_object()) {
      Reject("'" + path + "' must be an object.", path);
    }
    const std::string& type = RequiredString(tool, "type", path);
    if (type == "function") {
      out.push_back(FlatTool(tool, "parameters", path));
    } else if (std::find(kIgnoredTools.begin(), kIgnoredTools.end(), type) != kIgnoredTools.end()) {
      ignored.push_back(type);
    } else {
      RejectType(type, path, "\"function\": this server runs no tools of its own");
    }
  }
  return out;
}

ToolChoice ReadChoice(const Fields& fields, const Json& tools) {
  const Json* choice = fields.Find("tool_choice");
  if (choice == nullptr || *choice == "auto") {
    return {.kind = ToolChoice::Kind::kAuto, .name = ""};
  }
  if (*choice == "none" || *choice == "required") {
    return {.kind = *choice == "none" ? ToolChoice::Kind::kNone : ToolChoice::Kind::kRequired,
            .name = ""};
  }
  if (!choice->is_object()) {
    Reject("'tool_choice' must be one of none, auto, required or an object that names a function.",
           "tool_choice");
  }
  const std::string& type = RequiredString(*choice, "type", "tool_choice");
  if (type != "function") {
    RejectType(type, "tool_choice", "\"function\"");
  }
  return NamedTool(*choice, &tools);
}

ResponseFormat ReadFormat(const Fields& fields) {
  ResponseFormat out;
  const Json* text = fields.Object("text");
  const Json* format = text == nullptr ? nullptr : Fields(*text, "text.").Object("format");
  if (format == nullptr) {
    return out;
  }
  const std::string& type = RequiredString(*format, "type", "text.format");
  if (type == "json_object") {
    out.kind = ResponseFormat::Kind::kJsonObject;
  } else if (type == "json_schema") {
    const Fields nested(*format, "text.format.");
    nested.String("name");
    nested.Bool("strict");
    out.path = "text.format.schema";
    const Json* schema = nested.Object("schema");
    if (schema == nullptr) {
      Reject("'" + out.path + "' is required and must be an object.", out.path);
    }
    out.kind = ResponseFormat::Kind::kJsonSchema;
    out.schema = std::make_shared<const Json>(*schema);
  } else if (type != "text") {
    RejectType(type, "text.format", "one of text, json_object, json_schema");
  }
  return out;
}

Json ReadReasoningOptions(const Fields& fields) {
  Json variables = Json::object();
  if (const Json* reasoning = fields.Object("reasoning")) {
    if (const auto effort = Fields(*reasoning, "reasoning.").String("effort")) {
      ApplyEffort(*effort, "reasoning.effort", variables);
    }
  }
  return variables;
}

// Tools and instructions may be long and would be in every event that holds the response.
std::string Repeated(const Fields& fields) {
  struct Member {
    const char* name;
    Json absent;
  };
  static const Member kMembers[] = {{"max_output_tokens", nullptr},
                                    {"metadata", Json::object()},
                                    {"parallel_tool_calls", true},
                                    {"reasoning", nullptr},
                                    {"temperature", nullptr},
                                    {"tool_choice", "auto"},
                                    {"top_p", nullptr},
                                    {"user", nullptr}};
  std::string out;
  for (const Member& member : kMembers) {
    const Json* value = fields.Find(member.name);
    out += ",\"" + std::string(member.name) +
           "\":" + (value == nullptr ? member.absent : *value).dump();
  }
  return out;
}

}  // namespace

ResponsesRequest ParseResponsesRequest(std::string body, const RequestLimits& limits) {
  const Json document = ParseObject(std::move(body));
  const Fields fields(document, "");
  RefuseState(fields);
  ResponsesRequest request;
  ChatRequest& chat = request.chat;
  CommonFields& common = chat.common;
  common.model = fields.String("model").value_or("");
  common.stream = fields.Bool("stream").value_or(false);
  common.sampling.temperature =
      fields.Number("temperature", 0, std::numeric_limits<double>::infinity());
  common.sampling.top_p = fields.Number("top_p", 0, 1, /*exclusive_min=*/true);
  common.stop.max_tokens = fields.Integer("max_output_tokens", 1, INT64_MAX);
  Json tools = ReadTools(fields, chat.ignored_tools);
  ToolChoice choice = ReadChoice(fields, tools);
  SetTools(std::move(tools), std::move(choice), limits, chat);
  chat.parallel_tool_calls = fields.Bool("parallel_tool_calls").value_or(true);
  chat.response_format = ReadFormat(fields);
  chat.template_variables = std::make_shared<Json>(ReadReasoningOptions(fields));
  chat.messages = std::make_shared<Json>(NormaliseMessages(ReadInput(fields)));
  request.repeated = Repeated(fields);
  return request;
}

}  // namespace mach::api
