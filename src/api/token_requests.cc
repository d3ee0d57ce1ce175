// The bodies of /tokenize and /detokenize, as vLLM has them.
#include <utility>

#include "api/common_fields.h"

namespace mach::api {

TokenizeRequest ParseTokenizeRequest(std::string body, const RequestLimits& limits) {
  Json document = ParseObject(std::move(body));
  const Fields fields(document, "");
  TokenizeRequest request;
  request.model = fields.String("model").value_or("");
  request.token_texts = fields.Bool("return_token_strs").value_or(false);
  const bool chat = fields.Find("messages") != nullptr;
  // A template writes its own.
  request.add_special_tokens = fields.Bool("add_special_tokens").value_or(!chat);
  if (!chat) {
    auto text = fields.String("prompt");
    if (!text) {
      Reject("One of 'prompt', a string, and 'messages' is required.", "prompt");
    }
    request.text = std::move(*text);
    return request;
  }
  const bool generation_prompt = fields.Bool("add_generation_prompt").value_or(true);
  document.erase("add_generation_prompt");
  request.chat = ReadChatRequest(std::move(document), limits);
  request.chat->generation_prompt = generation_prompt;
  return request;
}

DetokenizeRequest ParseDetokenizeRequest(std::string body, const RequestLimits& /*limits*/) {
  const Json document = ParseObject(std::move(body));
  const Fields fields(document, "");
  DetokenizeRequest request;
  request.model = fields.String("model").value_or("");
  const Json* tokens = fields.Array("tokens");
  if (tokens == nullptr) {
    Reject("'tokens' is required and must be an array of token ids.", "tokens");
  }
  for (size_t i = 0; i < tokens->size(); ++i) {
    const Json& token = (*tokens)[i];
    if (!token.is_number_unsigned() || token.get<uint64_t>() > INT32_MAX) {
      const std::string path = "tokens[" + std::to_string(i) + "]";
      Reject("'" + path + "' must be a token id.", path);
    }
    request.tokens.push_back(token.get<int32_t>());
  }
  return request;
}

}  // namespace mach::api
