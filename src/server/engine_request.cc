#include "server/engine_request.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "api/errors.h"

namespace mach::server {
namespace {

// Shorter texts are cheaper to tokenise than to think about.
constexpr size_t kEarlyCheckBytes = 1 << 20;

[[noreturn]] void Reject(std::string message, std::string param) {
  throw api::RequestError(api::InvalidRequest(std::move(message), std::move(param)));
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

}  // namespace

void CheckModelName(const api::CommonFields& common, const ModelHost& host) {
  if (!host.Answers(common.model)) {
    throw api::RequestError(api::ModelNotFound(common.model.substr(0, 200)));
  }
}

std::vector<int32_t> TokenizeText(const api::CommonFields& common, const ModelHost& host,
                                  std::string_view text, bool add_special_tokens,
                                  const std::string& path) {
  CheckTextLength(common, host, text.size(), path);
  const loading::ServedModel& model = *host.ready();
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

std::vector<int32_t> TokenizePrompt(api::Prompt prompt, const api::CommonFields& common,
                                    const ModelHost& host, const std::string& path) {
  const loading::ServedModel& model = *host.ready();
  if (const auto* text = std::get_if<std::string>(&prompt)) {
    std::vector<int32_t> tokens =
        TokenizeText(common, host, *text, /*add_special_tokens=*/true, path);
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

engine::GenerationRequest MakeEngineRequest(const api::CommonFields& common, const ModelHost& host,
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

}  // namespace mach::server
