#include "server/chat_prompt.h"

#include <functional>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "api/errors.h"
#include "base/clock.h"

namespace mach::server {
namespace {

using Json = nlohmann::ordered_json;

// Puts the arguments of past calls that are no objects into one; whether there were any.
bool WrapArguments(Json& messages) {
  bool found = false;
  for (Json& message : messages) {
    const auto calls = message.find("tool_calls");
    if (calls == message.end()) {
      continue;
    }
    for (Json& call : *calls) {
      Json& arguments = call["function"]["arguments"];
      if (!arguments.is_object()) {
        arguments = Json::object({{"arguments", arguments}});
        found = true;
      }
    }
  }
  return found;
}

// Makes system messages behind the first message the user's; whether there were any. Some templates
// allow a system message at the beginning only.
bool MoveSystemToUser(Json& messages) {
  bool found = false;
  for (size_t i = 1; i < messages.size(); ++i) {
    if (messages[i]["role"] == "system") {
      messages[i]["role"] = "user";
      found = true;
    }
  }
  return found;
}

}  // namespace

std::string RenderChat(api::ChatRequest& request, const loading::ServedModel& model) {
  if (model.chat_template == nullptr) {
    throw api::RequestError(
        api::InvalidRequest("The model '" + model.info.id +
                                "' has no chat template. Use /v1/completions with a whole prompt.",
                            "messages"));
  }
  Json variables = Json::object();
  variables["messages"] = std::move(*request.messages);
  if (request.tools) {
    variables["tools"] = *request.tools;
  }
  variables["add_generation_prompt"] = request.generation_prompt;
  variables["bos_token"] = model.bos_token;
  variables["eos_token"] = model.eos_token;
  for (const auto& [key, value] : request.template_variables->items()) {
    variables[key] = value;
  }
  const int64_t now = UnixSeconds();
  const jinja::ChatTemplate& chat_template = *model.chat_template;
  std::vector<bool (*)(Json&)> remedies = {WrapArguments, MoveSystemToUser};
  while (true) {
    try {
      return chat_template.Render(variables, now);
    } catch (const Error& e) {
      if (e.code() == ErrorCode::kInternal) {
        throw;
      }
      bool again = false;
      while (e.code() == ErrorCode::kInvalidArgument && !again && !remedies.empty()) {
        again = remedies.back()(variables["messages"]);
        remedies.pop_back();
      }
      if (!again) {
        api::ErrorInfo info = api::InvalidRequest(
            "The chat template refused the messages: " + e.Describe(), "messages");
        info.cause = std::string(chat_template.source_name()) + ": " + e.Describe();
        throw api::RequestError(std::move(info));
      }
    }
  }
}

}  // namespace mach::server
