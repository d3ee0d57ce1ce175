#include <algorithm>
#include <array>
#include <utility>

#include "api/common_fields.h"
#include "api/json_text.h"
#include "api/messages.h"
#include "api/request.h"

namespace mach::api {
namespace {

// Fields whose meaning this server does not implement yet. They would change the answer, so they
// are refused by name instead of being ignored.
void RefuseTools(const Fields& fields) {
  if (fields.Find("tools") != nullptr) {
    Reject("'tools' is not supported by this server yet.", "tools");
  }
  const Json* choice = fields.Find("tool_choice");
  if (choice != nullptr && *choice != "none") {
    Reject(
        "'tool_choice' other than \"none\" needs 'tools', which this server does not support "
        "yet.",
        "tool_choice");
  }
  fields.Bool("parallel_tool_calls");
}

void CheckResponseFormat(const Fields& fields) {
  const Json* format = fields.Object("response_format");
  if (format == nullptr) {
    return;
  }
  const auto type = fields.Find("response_format")->find("type");
  if (type == format->end() || !type->is_string()) {
    Reject("'response_format.type' is required and must be a string.", "response_format.type");
  }
  if (*type == "json_object" || *type == "json_schema") {
    Reject(
        "'response_format.type' must be \"text\": structured output is not supported by this "
        "server yet.",
        "response_format.type");
  }
  if (*type != "text") {
    Reject("'response_format.type' must be one of text, json_object, json_schema.",
           "response_format.type");
  }
}

void ParseLogprobs(const Fields& fields, const RequestLimits& limits, CommonFields& common) {
  common.logprobs = fields.Bool("logprobs").value_or(false);
  const auto top = fields.Integer("top_logprobs", 0, limits.max_top_logprobs);
  if (top && !common.logprobs) {
    Reject("'top_logprobs' is only allowed when 'logprobs' is true.", "top_logprobs");
  }
  common.top_logprobs = static_cast<int32_t>(top.value_or(0));
}

Json TemplateVariables(const Fields& fields) {
  Json variables = Json::object();
  if (const Json* kwargs = fields.Object("chat_template_kwargs")) {
    constexpr std::array<const char*, 5> kReserved = {"messages", "tools", "add_generation_prompt",
                                                      "bos_token", "eos_token"};
    for (const char* key : kReserved) {
      if (kwargs->contains(key)) {
        const std::string path = std::string("chat_template_kwargs.") + key;
        Reject("'" + path + "' is set by the server.", path);
      }
    }
    variables = *kwargs;
  }
  if (const auto effort = fields.String("reasoning_effort")) {
    constexpr std::array<std::string_view, 7> kEfforts = {"none", "minimal", "low", "medium",
                                                          "high", "xhigh",   "max"};
    if (std::find(kEfforts.begin(), kEfforts.end(), *effort) == kEfforts.end()) {
      Reject("'reasoning_effort' must be one of none, minimal, low, medium, high, xhigh, max.",
             "reasoning_effort");
    }
    // chat_template_kwargs has the last word.
    if (!variables.contains("enable_thinking")) {
      variables["enable_thinking"] = *effort != "none";
    }
    if (!variables.contains("reasoning_effort")) {
      variables["reasoning_effort"] = *effort;
    }
  }
  // Reasoning is part of the content until it is split off, so it cannot be left out.
  if (!fields.Bool("include_reasoning").value_or(true)) {
    Reject("'include_reasoning' false is not supported by this server yet.", "include_reasoning");
  }
  return variables;
}

}  // namespace

ChatRequest ParseChatRequest(std::string body, const RequestLimits& limits) {
  Json document = ParseObject(std::move(body));
  const Fields fields(document, "");
  ChatRequest request;
  request.common = ParseCommonFields(fields, limits);
  RefuseTools(fields);
  CheckResponseFormat(fields);
  ParseLogprobs(fields, limits, request.common);
  request.template_variables = std::make_shared<Json>(TemplateVariables(fields));
  Json messages = fields.Array("messages") != nullptr ? std::move(document["messages"]) : Json();
  request.messages = std::make_shared<Json>(NormaliseMessages(std::move(messages)));
  return request;
}

}  // namespace mach::api
