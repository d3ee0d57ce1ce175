#include <utility>

#include "api/common_fields.h"
#include "api/json_text.h"
#include "api/request.h"

namespace mach::api {
namespace {

std::vector<int32_t> ReadTokens(const Json& list, const std::string& path) {
  std::vector<int32_t> tokens;
  tokens.reserve(list.size());
  for (size_t i = 0; i < list.size(); ++i) {
    const Json& id = list[i];
    if (!id.is_number_unsigned() || id.get<uint64_t>() > static_cast<uint64_t>(INT32_MAX)) {
      const std::string item_path = path + "[" + std::to_string(i) + "]";
      Reject("'" + item_path + "' must be a token id.", item_path);
    }
    tokens.push_back(id.get<int32_t>());
  }
  return tokens;
}

// `prompt` is the request's field, whose texts are moved.
std::vector<Prompt> ReadPrompts(Json prompt, const RequestLimits& limits) {
  if (prompt.is_null()) {
    Reject("'prompt' is required.", "prompt");
  }
  std::vector<Prompt> prompts;
  if (prompt.is_string()) {
    prompts.emplace_back(std::move(prompt.get_ref<std::string&>()));
    return prompts;
  }
  if (!prompt.is_array() || prompt.empty()) {
    Reject("'prompt' must be a string, a non-empty array of strings, or token ids.", "prompt");
  }
  if (prompt.front().is_number()) {
    prompts.emplace_back(ReadTokens(prompt, "prompt"));
    return prompts;
  }
  if (prompt.size() > static_cast<size_t>(limits.max_prompts)) {
    Reject("'prompt' has " + std::to_string(prompt.size()) + " prompts; the maximum is " +
               std::to_string(limits.max_prompts) + ".",
           "prompt");
  }
  for (size_t i = 0; i < prompt.size(); ++i) {
    Json& item = prompt[i];
    const std::string path = "prompt[" + std::to_string(i) + "]";
    if (item.is_string()) {
      prompts.emplace_back(std::move(item.get_ref<std::string&>()));
    } else if (item.is_array() && !item.empty()) {
      prompts.emplace_back(ReadTokens(item, path));
    } else {
      Reject("'" + path + "' must be a string or a non-empty array of token ids.", path);
    }
  }
  return prompts;
}

}  // namespace

CompletionRequest ParseCompletionRequest(std::string body, const RequestLimits& limits) {
  Json document = ParseObject(std::move(body));
  const Fields fields(document, "");
  CompletionRequest request;
  request.common = ParseCommonFields(fields, limits);
  for (const char* key : {"messages", "tools", "tool_choice", "response_format"}) {
    if (fields.Find(key) != nullptr) {
      Reject(std::string("'") + key + "' belongs to /v1/chat/completions.", key);
    }
  }
  const auto logprobs = fields.Integer("logprobs", 0, limits.max_top_logprobs);
  request.common.logprobs = logprobs.has_value();
  request.common.top_logprobs = static_cast<int32_t>(logprobs.value_or(0));
  const bool has_prompt = fields.Find("prompt") != nullptr;
  request.prompts = ReadPrompts(has_prompt ? std::move(document["prompt"]) : Json(), limits);
  return request;
}

}  // namespace mach::api
