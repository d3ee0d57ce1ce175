// Errors as OpenAI clients see them: an HTTP status and the object {"error":{message,type,param,
// code}}. Thrown while a request is read and checked, caught at the handler's edge. Plain data;
// any thread.
#pragma once

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
  std::string cause;      // what the log has beyond the message; the client does not see it
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
// The ceiling of memory ends a request: for its client, a smaller context. Not a 503, which clients
// would send again for ever.
ErrorInfo OutOfMemory(std::string message);
ErrorInfo InvalidApiKey();
ErrorInfo Forbidden(std::string message);
ErrorInfo UnsupportedEncoding();
ErrorInfo ModelNotFound(std::string_view model);
ErrorInfo UnknownRoute(std::string_view method, std::string_view path);
ErrorInfo MethodNotAllowed(std::string_view method, std::string_view path);
ErrorInfo BodyTooLarge(uint64_t limit_bytes);
ErrorInfo ServerBusy(std::string message);
ErrorInfo ModelLoading(std::string message);
ErrorInfo Internal(std::string message);

// What an engine, tokenizer or template error becomes: the one table from ErrorCode to status.
ErrorInfo FromError(const Error& error);

// The JSON object, without a trailing newline.
std::string ErrorBody(const ErrorInfo& info);

}  // namespace mach::api
