#include "server/token_query.h"

#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include "api/errors.h"
#include "base/json_string.h"
#include "server/chat_prompt.h"
#include "server/engine_request.h"

namespace mach::server {
namespace {

std::vector<int32_t> ChatTokens(api::ChatRequest request, const ModelHost& host,
                                bool add_special_tokens) {
  const std::string text = RenderChat(request, *host.ready());
  return TokenizeText(request.common, host, text, add_special_tokens, "messages");
}

std::string CountTokens(std::string body, const api::RequestLimits& limits, const ModelHost& host) {
  api::ChatRequest request = api::ParseCountTokensRequest(std::move(body), limits);
  CheckModelName(request.common, host);
  const auto tokens = ChatTokens(std::move(request), host, /*add_special_tokens=*/false);
  return "{\"input_tokens\":" + std::to_string(tokens.size()) + "}";
}

std::string Tokenize(std::string body, const api::RequestLimits& limits, const ModelHost& host) {
  api::TokenizeRequest request = api::ParseTokenizeRequest(std::move(body), limits);
  api::CommonFields common;
  common.model = request.model;
  CheckModelName(common, host);
  const std::vector<int32_t> tokens =
      request.chat ? ChatTokens(std::move(*request.chat), host, request.add_special_tokens)
                   : TokenizeText(common, host, request.text, request.add_special_tokens, "prompt");
  const loading::ServedModel& model = *host.ready();
  std::string out = "{\"count\":" + std::to_string(tokens.size()) +
                    ",\"max_model_len\":" + std::to_string(model.info.max_context) +
                    ",\"tokens\":[";
  for (size_t i = 0; i < tokens.size(); ++i) {
    out += i > 0 ? "," : "";
    out += std::to_string(tokens[i]);
  }
  out += "],\"token_strs\":";
  if (!request.token_texts) {
    return out + "null}";
  }
  for (size_t i = 0; i < tokens.size(); ++i) {
    out += i > 0 ? ',' : '[';
    AppendJsonString(out, model.tokenizer->TokenBytes(tokens[i]));
  }
  return out + (tokens.empty() ? "[]}" : "]}");
}

std::string Detokenize(std::string body, const api::RequestLimits& limits, const ModelHost& host) {
  api::DetokenizeRequest request = api::ParseDetokenizeRequest(std::move(body), limits);
  api::CommonFields common;
  common.model = std::move(request.model);
  CheckModelName(common, host);
  const std::vector<int32_t> tokens =
      TokenizePrompt(std::move(request.tokens), common, host, "tokens");
  std::string out = "{\"prompt\":";
  AppendJsonString(out, host.ready()->tokenizer->Decode(tokens, /*skip_special_tokens=*/false));
  return out + "}";
}

constexpr std::array<TokenQuery, 3> kQueries = {{
    {"/v1/messages/count_tokens", CountTokens},
    {"/tokenize", Tokenize},
    {"/detokenize", Detokenize},
}};

}  // namespace

std::span<const TokenQuery> TokenQueries() {
  return kQueries;
}

}  // namespace mach::server
