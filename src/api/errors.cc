#include "api/errors.h"

#include "base/json_string.h"

namespace mach::api {
namespace {

constexpr char kInvalidRequestType[] = "invalid_request_error";
constexpr char kServerErrorType[] = "server_error";

ErrorInfo Make(int status, std::string message, const char* type, std::string param,
               const char* code) {
  ErrorInfo info;
  info.status = status;
  info.message = std::move(message);
  info.type = type;
  info.param = std::move(param);
  info.code = code;
  return info;
}

const char* AnthropicType(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 413:
      return "request_too_large";
    case 429:
      return "rate_limit_error";
    case 503:
    case 529:
      return "overloaded_error";
    default:
      return status >= 500 ? "api_error" : "invalid_request_error";
  }
}

// Claude Code matches both sentences on an overflow: it gives up some of its history, or asks for
// fewer tokens.
std::string AnthropicMessage(const ErrorInfo& info) {
  if (info.max_context_tokens == 0) {
    return info.message;
  }
  const std::string input = std::to_string(info.input_tokens);
  const std::string most = std::to_string(info.max_context_tokens);
  if (info.input_tokens >= info.max_context_tokens) {
    return "prompt is too long: " + input + " tokens > " + most + " maximum";
  }
  return "input length and `max_tokens` exceed context limit: " + input + " + " +
         std::to_string(info.output_tokens) + " > " + most +
         ", decrease input length or `max_tokens` and try again";
}

}  // namespace

ErrorInfo InvalidRequest(std::string message, std::string param) {
  return Make(400, std::move(message), kInvalidRequestType, std::move(param), "");
}

ErrorInfo ContextOverflow(int64_t max_context_tokens, int64_t output_tokens, int64_t input_tokens,
                          std::string param) {
  // OpenCode matches this sentence word for word and then compacts its history.
  ErrorInfo info =
      Make(400,
           "This model's maximum context length is " + std::to_string(max_context_tokens) +
               " tokens. However, you requested " + std::to_string(output_tokens) +
               " output tokens and your prompt contains at least " + std::to_string(input_tokens) +
               " input tokens.",
           kInvalidRequestType, std::move(param), "context_length_exceeded");
  info.input_tokens = input_tokens;
  info.output_tokens = output_tokens;
  info.max_context_tokens = max_context_tokens;
  return info;
}

ErrorInfo OutOfMemory(std::string message) {
  return Make(400, std::move(message), kInvalidRequestType, "", "out_of_memory");
}

ErrorInfo InvalidApiKey() {
  return Make(401, "Missing or incorrect API key. Send it as 'Authorization: Bearer KEY'.",
              kInvalidRequestType, "", "invalid_api_key");
}

ErrorInfo Forbidden(std::string message) {
  return Make(403, std::move(message), kInvalidRequestType, "", "");
}

ErrorInfo UnsupportedEncoding() {
  return Make(415, "'Content-Encoding' is not supported: send the body uncompressed.",
              kInvalidRequestType, "", "");
}

ErrorInfo ModelNotFound(std::string_view model) {
  return Make(404,
              "The model '" + std::string(model) + "' does not exist. GET /v1/models lists " +
                  "what is served.",
              kInvalidRequestType, "model", "model_not_found");
}

ErrorInfo NotServed(std::string message) {
  return Make(404, std::move(message), kInvalidRequestType, "", "");
}

ErrorInfo UnknownRoute(std::string_view method, std::string_view path) {
  return Make(404, "Unknown route: " + std::string(method) + " " + std::string(path),
              kInvalidRequestType, "", "");
}

ErrorInfo MethodNotAllowed(std::string_view method, std::string_view path) {
  return Make(405, "Method " + std::string(method) + " is not allowed for " + std::string(path),
              kInvalidRequestType, "", "");
}

ErrorInfo BodyTooLarge(uint64_t limit_bytes) {
  return Make(413, "The request body is larger than " + std::to_string(limit_bytes) + " bytes.",
              kInvalidRequestType, "", "");
}

ErrorInfo ServerBusy(std::string message) {
  ErrorInfo info = Make(503, std::move(message), kServerErrorType, "", "server_busy");
  info.retry_after_s = 1;
  return info;
}

ErrorInfo ModelLoading(std::string message) {
  ErrorInfo info = Make(503, std::move(message), kServerErrorType, "", "model_loading");
  info.retry_after_s = 1;
  return info;
}

ErrorInfo Internal(std::string_view reference, std::string cause) {
  ErrorInfo info = Make(500,
                        "The server failed to answer this request. Its log has the cause under the "
                        "id " +
                            std::string(reference) + ".",
                        kServerErrorType, "", "internal_error");
  info.cause = std::move(cause);
  return info;
}

ErrorInfo FromRefusal(const Error& error, std::string_view reference) {
  if (error.code() == ErrorCode::kInvalidArgument) {
    return InvalidRequest(error.Describe());
  }
  return FromFailure(error, reference);
}

ErrorInfo FromFailure(const Error& error, std::string_view reference) {
  switch (error.code()) {
    case ErrorCode::kResourceLimit:
      return OutOfMemory(error.Describe());
    case ErrorCode::kUnavailable:
      return ServerBusy(error.Describe());
    case ErrorCode::kCancelled:
      return ServerBusy("The request was cancelled: the server is shutting down.");
    default:
      return Internal(reference, error.Describe());
  }
}

std::string ErrorBody(const ErrorInfo& info, std::string_view /*request_id*/) {
  std::string out = "{\"error\":{\"message\":";
  AppendJsonString(out, info.message);
  out += ",\"type\":";
  AppendJsonString(out, info.type);
  out += ",\"param\":";
  if (info.param.empty()) {
    out += "null";
  } else {
    AppendJsonString(out, info.param);
  }
  out += ",\"code\":";
  if (info.code.empty()) {
    out += "null";
  } else {
    AppendJsonString(out, info.code);
  }
  out += "}}";
  return out;
}

std::string AnthropicErrorBody(const ErrorInfo& info, std::string_view request_id) {
  std::string out = "{\"type\":\"error\",\"error\":{\"type\":\"";
  out += AnthropicType(info.status);
  out += "\",\"message\":";
  AppendJsonString(out, AnthropicMessage(info));
  out += "},\"request_id\":";
  AppendJsonString(out, request_id);
  out += '}';
  return out;
}

}  // namespace mach::api
