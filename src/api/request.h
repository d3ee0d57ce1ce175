// Generation requests as plain structs: what a client asked for, checked field by field, with
// defaults of the model not yet applied. Not the engine's request: the server maps these to it once
// the model is known. Every chat protocol becomes a ChatRequest. Values; any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace mach::api {

// Server maxima that decide whether a request is acceptable.
struct RequestLimits {
  int32_t max_choices = 8;     // n
  int32_t max_prompts = 1024;  // prompts of one /v1/completions request
  int32_t max_stop_strings = 64;
  int32_t max_stop_token_ids = 1024;
  int32_t max_top_logprobs = 20;
  int32_t max_tools = 1024;
};

// Absent = what the model's generation_config says, then OpenAI's default.
struct SamplingFields {
  std::optional<float> temperature;
  std::optional<float> top_p;
  std::optional<float> min_p;
  std::optional<int32_t> top_k;  // 0 = off
  std::optional<float> presence_penalty;
  std::optional<float> frequency_penalty;
  std::optional<float> repetition_penalty;
  std::optional<int64_t> seed;
  std::vector<std::pair<int32_t, float>> logit_bias;
};

struct StopFields {
  std::optional<int64_t> max_tokens;  // absent = the rest of the context
  int64_t min_tokens = 0;
  std::vector<std::string> strings;
  std::vector<int32_t> token_ids;
  bool include_stop_string = false;
  bool ignore_eos = false;
};

struct CommonFields {
  std::string model;  // empty = not given
  bool stream = false;
  bool include_usage = false;
  bool continuous_usage = false;
  int32_t n = 1;
  SamplingFields sampling;
  StopFields stop;
  bool logprobs = false;
  int32_t top_logprobs = 0;
  bool skip_special_tokens = true;
  bool receipt = false;  // what the answer cost, as usage.mach
};

// What the model may, must or must not call.
struct ToolChoice {
  enum class Kind { kNone, kAuto, kRequired, kNamed };
  Kind kind = Kind::kNone;
  std::string name;  // kNamed
};

struct ResponseFormat {
  enum class Kind { kText, kJsonObject, kJsonSchema };
  Kind kind = Kind::kText;
  std::shared_ptr<const nlohmann::ordered_json> schema;  // kJsonSchema
  std::string path;                                      // of the schema in the request
};

struct ChatRequest {
  CommonFields common;
  // The array `messages` as the template gets it: leading system messages merged, parts joined,
  // arguments of past calls as objects.
  std::shared_ptr<nlohmann::ordered_json> messages;
  // Further template variables: chat_template_kwargs, enable_thinking, reasoning_effort. An object.
  std::shared_ptr<nlohmann::ordered_json> template_variables;
  std::shared_ptr<const nlohmann::ordered_json> tools;  // as OpenAI declares them; null = none
  ToolChoice tool_choice;
  bool parallel_tool_calls = true;
  ResponseFormat response_format;
  bool include_reasoning = true;
  std::optional<int64_t> thinking_budget;  // tokens of reasoning
  bool generation_prompt = true;           // at the end of what the template renders
  // Types of declared tools that are not the server's, of which the model is not told.
  std::vector<std::string> ignored_tools;
};

using Prompt = std::variant<std::string, std::vector<int32_t>>;

struct CompletionRequest {
  CommonFields common;
  std::vector<Prompt> prompts;  // not empty; none of them empty token lists
};

// A chat as /v1/responses asks for it.
struct ResponsesRequest {
  ChatRequest chat;
  std::string repeated;  // see AnswerSpec
};

// What /tokenize is asked for: a chat as its template renders it, or a text.
struct TokenizeRequest {
  std::optional<ChatRequest> chat;
  std::string model;
  std::string text;
  bool add_special_tokens = true;
  bool token_texts = false;
};

struct DetokenizeRequest {
  std::string model;
  std::vector<int32_t> tokens;
};

// All throw RequestError (400) naming the field, and check everything that can be known without
// the model. The body is given up as soon as it is parsed.
ChatRequest ParseChatRequest(std::string body, const RequestLimits& limits);
CompletionRequest ParseCompletionRequest(std::string body, const RequestLimits& limits);
ChatRequest ParseMessagesRequest(std::string body, const RequestLimits& limits);
ChatRequest ParseCountTokensRequest(std::string body, const RequestLimits& limits);
ResponsesRequest ParseResponsesRequest(std::string body, const RequestLimits& limits);
TokenizeRequest ParseTokenizeRequest(std::string body, const RequestLimits& limits);
DetokenizeRequest ParseDetokenizeRequest(std::string body, const RequestLimits& limits);

}  // namespace mach::api
