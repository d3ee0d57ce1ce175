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
  std::string cause;      // what the log has in place of the message; the client does not see it

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

// The JSON object, without a trailing newline.
std::string ErrorBody(const ErrorInfo& info);

}  // namespace mach::api
