#include "server/protocol.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

#include "api/errors.h"
#include "base/clock.h"

namespace mach::server {
namespace {

using Json = nlohmann::ordered_json;

// Shorter texts are cheaper to tokenise than to think about.
constexpr size_t kEarlyCheckBytes = 1 << 20;

[[noreturn]] void Reject(std::string message, std::string param) {
  throw api::RequestError(api::InvalidRequest(std::move(message), std::move(param)));
}

void CheckModelName(const api::CommonFields& common, const ModelHost& host) {
  if (!host.Answers(common.model)) {
    throw api::RequestError(api::ModelNotFound(common.model.substr(0, 200)));
  }
}

// A text that no tokenisation can fit into the context is refused before minutes are spent on it.
void CheckTextLength(const api::CommonFields& common, const ModelHost& host, size_t bytes,
                     const std::string& path) {
  if (bytes < kEarlyCheckBytes) {
    return;
  }
  const int64_t max_context = host.ready()->info.max_context;
  const auto at_least = static_cast<int64_t>(bytes / host.LongestTokenBytes());
  if (at_least >= max_context) {
    throw api::RequestError(
        api::ContextOverflow(max_context, common.stop.max_tokens.value_or(0), at_least, path));
  }
}

std::vector<int32_t> Tokenize(const loading::ServedModel& model, std::string_view text,
                              bool add_special_tokens, const std::string& path) {
  std::vector<int32_t> tokens;
  try {
    tokens = model.tokenizer->Encode(text, add_special_tokens);
  } catch (const Error& e) {
    if (e.code() != ErrorCode::kResourceLimit) {
      throw;
    }
    Reject("'" + path + "' cannot be tokenised: " + e.Describe(), path);
  }
  // Tokenizers may have tokens, such as one to pad with, that the model was never given.
  const auto unknown = std::ranges::find_if(
      tokens, [&model](int32_t token) { return token >= model.info.vocab_size; });
  if (unknown != tokens.end()) {
    Reject("'" + path + "' has the token \"" + model.tokenizer->TokenBytes(*unknown) + "\" (" +
               std::to_string(*unknown) + "), which this model has no embedding for.",
           path);
  }
  return tokens;
}

decode::SamplingParams MakeSampling(const api::SamplingFields& fields,
                                    const loading::ServedModel& model) {
  const loading::GenerationDefaults& defaults = model.defaults;
  decode::SamplingParams out;
  out.temperature = fields.temperature.value_or(defaults.temperature.value_or(1.0F));
  out.top_p = fields.top_p.value_or(defaults.top_p.value_or(1.0F));
  out.min_p = fields.min_p.value_or(defaults.min_p.value_or(0.0F));
  out.top_k = fields.top_k.value_or(defaults.top_k.value_or(0));
  out.repetition_penalty =
      fields.repetition_penalty.value_or(defaults.repetition_penalty.value_or(1.0F));
  out.presence_penalty = fields.presence_penalty.value_or(0.0F);
  out.frequency_penalty = fields.frequency_penalty.value_or(0.0F);
  out.seed = fields.seed;
  for (const auto& [token, bias] : fields.logit_bias) {
    if (token >= model.info.vocab_size) {
      const std::string path = "logit_bias." + std::to_string(token);
      Reject("'" + path + "' is not a token of this model (it has " +
                 std::to_string(model.info.vocab_size) + ").",
             path);
    }
    out.logit_bias.emplace_back(token, bias);
  }
  return out;
}

engine::GenerationRequest MakeRequest(const api::CommonFields& common, const ModelHost& host,
                                      std::vector<int32_t> prompt, const std::string& field) {
  const loading::ServedModel& model = *host.ready();
  const int64_t max_context = model.info.max_context;
  const auto prompt_tokens = static_cast<int64_t>(prompt.size());
  const int64_t wanted = common.stop.max_tokens.value_or(0);
  // Written without a sum: max_tokens may be as large as an int64.
  if (prompt_tokens >= max_context || wanted > max_context - prompt_tokens) {
    throw api::RequestError(api::ContextOverflow(max_context, wanted, prompt_tokens, field));
  }
  engine::GenerationRequest request;
  request.prompt_tokens = std::move(prompt);
  request.sampling = MakeSampling(common.sampling, model);
  request.stop.max_tokens = common.stop.max_tokens.value_or(max_context - prompt_tokens);
  request.stop.min_tokens = common.stop.min_tokens;
  if (request.stop.min_tokens > request.stop.max_tokens) {
    Reject("'min_tokens' is more than the context has room for.", "min_tokens");
  }
  request.stop.strings = common.stop.strings;
  if (common.skip_special_tokens) {
    for (const std::string& text : common.stop.strings) {
      const auto token = model.tokenizer->TokenToId(text);
      if (token && *token < model.info.vocab_size && model.tokenizer->IsSpecial(*token)) {
        request.stop.string_tokens.emplace_back(*token, text);
      }
    }
  }
  for (size_t i = 0; i < common.stop.token_ids.size(); ++i) {
    if (common.stop.token_ids[i] >= model.info.vocab_size) {
      const std::string path = "stop_token_ids[" + std::to_string(i) + "]";
      Reject("'" + path + "' is not a token of this model.", path);
    }
  }
  request.stop.token_ids = common.stop.token_ids;
  request.stop.include_stop_string = common.stop.include_stop_string;
  request.stop.ignore_eos = common.stop.ignore_eos;
  request.choices = common.n;
  request.logprobs = common.logprobs;
  request.top_logprobs = common.top_logprobs;
  request.show_special = !common.skip_special_tokens;
  return request;
}

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

std::string Render(api::ChatRequest& request, const loading::ServedModel& model) {
  if (model.chat_template == nullptr) {
    Reject("The model '" + model.info.id +
               "' has no chat template. Use /v1/completions with a whole prompt.",
           "messages");
  }
  Json variables = Json::object();
  variables["messages"] = std::move(*request.messages);
  variables["add_generation_prompt"] = true;
  variables["bos_token"] = model.bos_token;
  variables["eos_token"] = model.eos_token;
  for (const auto& [key, value] : request.template_variables->items()) {
    variables[key] = value;
  }
  const int64_t now = UnixSeconds();
  const jinja::ChatTemplate& chat_template = *model.chat_template;
  try {
    try {
      return chat_template.Render(variables, now);
    } catch (const Error& e) {
      // What a model once wrote into a call is no reason to refuse the conversation.
      if (e.code() != ErrorCode::kInvalidArgument || !WrapArguments(variables["messages"])) {
        throw;
      }
      return chat_template.Render(variables, now);
    }
  } catch (const Error& e) {
    if (e.code() == ErrorCode::kInternal) {
      throw;
    }
    api::ErrorInfo info =
        api::InvalidRequest("The chat template refused the messages: " + e.Describe(), "messages");
    info.cause = std::string(chat_template.source_name()) + ": " + e.Describe();
    throw api::RequestError(std::move(info));
  }
}

std::vector<int32_t> TokenizePrompt(api::Prompt prompt, const api::CommonFields& common,
                                    const ModelHost& host, const std::string& path) {
  const loading::ServedModel& model = *host.ready();
  if (const auto* text = std::get_if<std::string>(&prompt)) {
    CheckTextLength(common, host, text->size(), path);
    std::vector<int32_t> tokens = Tokenize(model, *text, /*add_special_tokens=*/true, path);
    if (tokens.empty()) {
      Reject("'" + path + "' has no tokens.", path);
    }
    return tokens;
  }
  auto& tokens = std::get<std::vector<int32_t>>(prompt);
  const auto wrong = std::find_if(tokens.begin(), tokens.end(), [&](int32_t id) {
    return id < 0 || id >= model.info.vocab_size;
  });
  if (wrong != tokens.end()) {
    const std::string item = path + "[" + std::to_string(wrong - tokens.begin()) + "]";
    Reject("'" + item + "' is not a token of this model (it has " +
               std::to_string(model.info.vocab_size) + ").",
           item);
  }
  return std::move(tokens);
}

PreparedRequest PrepareChat(std::string body, const api::RequestLimits& limits,
                            const ModelHost& host) {
  api::ChatRequest request = api::ParseChatRequest(std::move(body), limits);
  CheckModelName(request.common, host);
  const loading::ServedModel& model = *host.ready();
  const std::string text = Render(request, model);
  CheckTextLength(request.common, host, text.size(), "messages");
  // The template writes its own BOS and role markers.
  std::vector<int32_t> tokens = Tokenize(model, text, /*add_special_tokens=*/false, "messages");
  if (tokens.empty()) {
    Reject("The rendered conversation has no tokens.", "messages");
  }
  PreparedRequest prepared;
  prepared.requests.push_back(MakeRequest(request.common, host, std::move(tokens), "messages"));
  prepared.common = std::move(request.common);
  return prepared;
}

PreparedRequest PrepareCompletion(std::string body, const api::RequestLimits& limits,
                                  const ModelHost& host) {
  api::CompletionRequest request = api::ParseCompletionRequest(std::move(body), limits);
  CheckModelName(request.common, host);
  PreparedRequest prepared;
  for (size_t i = 0; i < request.prompts.size(); ++i) {
    const std::string path =
        request.prompts.size() == 1 ? "prompt" : "prompt[" + std::to_string(i) + "]";
    std::vector<int32_t> tokens =
        TokenizePrompt(std::move(request.prompts[i]), request.common, host, path);
    prepared.requests.push_back(MakeRequest(request.common, host, std::move(tokens), path));
  }
  prepared.common = std::move(request.common);
  return prepared;
}

constexpr std::array<Protocol, 2> kProtocols = {{
    {"/v1/chat/completions", "chatcmpl-", PrepareChat, api::MakeChatEncoder},
    {"/v1/completions", "cmpl-", PrepareCompletion, api::MakeCompletionEncoder},
}};

}  // namespace

std::span<const Protocol> Protocols() {
  return kProtocols;
}

}  // namespace mach::server
