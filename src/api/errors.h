// Errors as clients see them: an HTTP status and an object, OpenAI's {"error":{message,type,param,
// code}} or that of another protocol. Thrown while a request is read and checked, caught at the
// handler's edge. Plain data; any thread.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

#include "base/error.h"

namespace mach::api {

struct ErrorInfo {
  int status = 500;
  std::string message;
  std::string type;
  std::string param;      // path of the field, as "messages[0].role"; empty = null
  std::string code;       // empty = null
  int retry_after_s = 0;  // > 0: the response carries Retry-After
  // Of a context overflow: the request's tokens and what there is room for.
  int64_t input_tokens = 0;
  int64_t output_tokens = 0;
  int64_t max_context_tokens = 0;
  std::string cause;  // what the log has in place of the message; the client does not see it

  // For the log.
  const std::string& reason() const { return cause.empty() ? message : cause; }
};

class RequestError : public std::runtime_error {
 public:
  explicit RequestError(ErrorInfo info)
      : std::runtime_error(info.message), info_(std::move(info)) {}
  const ErrorInfo& info() const { return info_; }

 private:
  ErrorInfo info_;
};

// One function for each kind of error that clients see, with its status, type and code.
ErrorInfo InvalidRequest(std::string message, std::string param = "");
// `output_tokens`: as asked for, 0 if the request did not say; `param`: the prompt's field.
ErrorInfo ContextOverflow(int64_t max_context_tokens, int64_t output_tokens, int64_t input_tokens,
                          std::string param);
// A request needs more memory than it can ever get. Not a 503, which clients would send again for
// ever, and not context_length_exceeded, for which they would give up their history.
ErrorInfo OutOfMemory(std::string message);
ErrorInfo InvalidApiKey();
ErrorInfo Forbidden(std::string message);
ErrorInfo UnsupportedEncoding();
ErrorInfo ModelNotFound(std::string_view model);
// For what others have under this path and this server has not.
ErrorInfo NotServed(std::string message);
ErrorInfo UnknownRoute(std::string_view method, std::string_view path);
ErrorInfo MethodNotAllowed(std::string_view method, std::string_view path);
ErrorInfo BodyTooLarge(uint64_t limit_bytes);
ErrorInfo ServerBusy(std::string message);
ErrorInfo ModelLoading(std::string message);
// A fault of the server's own: the client learns that, and under which id (`reference`) the log has
// the cause, which may name paths and commands that are not the client's business.
ErrorInfo Internal(std::string_view reference, std::string cause);

// What an error becomes that keeps a request from being queued: the client's fault or a full
// server, else internal.
ErrorInfo FromRefusal(const Error& error, std::string_view reference);
// What an error becomes that ends a request which was queued. Its fields have been found good, so
// whatever is not about memory or the server's end is internal.
ErrorInfo FromFailure(const Error& error, std::string_view reference);

// The JSON object of a protocol, without a trailing newline; `request_id` is what the log and the
// header x-request-id call the request.
using ErrorBodyFunction = std::string (*)(const ErrorInfo& info, std::string_view request_id);
// OpenAI's, which does not name the request.
std::string ErrorBody(const ErrorInfo& info, std::string_view request_id = "");
// Anthropic's {"type":"error","error":{type,message},"request_id"}.
std::string AnthropicErrorBody(const ErrorInfo& info, std::string_view request_id);

}  // namespace mach::api
