#include <array>
#include <utility>

#include "api/common_fields.h"
#include "api/json_text.h"
#include "api/messages.h"
#include "api/request.h"
#include "api/tool_fields.h"

namespace mach::api {
namespace {

void ParseLogprobs(const Fields& fields, const RequestLimits& limits, CommonFields& common) {
  common.logprobs = fields.Bool("logprobs").value_or(false);
  const auto top = fields.Integer("top_logprobs", 0, limits.max_top_logprobs);
  if (top.value_or(0) > 0 && !common.logprobs) {
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
    // chat_template_kwargs has the last word.
    ApplyEffort(*effort, "reasoning_effort", variables);
  }
  return variables;
}

}  // namespace

ChatRequest ParseChatRequest(std::string body, const RequestLimits& limits) {
  return ReadChatRequest(ParseObject(std::move(body)), limits);
}

ChatRequest ReadChatRequest(Json document, const RequestLimits& limits) {
  const Fields fields(document, "");
  ChatRequest request;
  request.common = ParseCommonFields(fields, limits);
  ParseTools(fields, limits, request);
  request.response_format = ParseResponseFormat(fields);
  request.include_reasoning = fields.Bool("include_reasoning").value_or(true);
  request.thinking_budget = fields.Integer("thinking_budget", 0, INT64_MAX);
  ParseLogprobs(fields, limits, request.common);
  request.template_variables = std::make_shared<Json>(TemplateVariables(fields));
  Json messages = fields.Array("messages") != nullptr ? std::move(document["messages"]) : Json();
  request.messages = std::make_shared<Json>(NormaliseMessages(std::move(messages)));
  return request;
}

}  // namespace mach::api
