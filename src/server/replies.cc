#include "server/replies.h"

#include <utility>
#include <vector>

#include "base/log.h"
#include "server/protocol.h"

namespace mach::server {

http::Response ErrorResponse(const http::Request& request, const api::ErrorInfo& info) {
  http::Response response;
  response.status = info.status;
  response.body = Pieces(ErrorBodyOf(request.path)(info, request.id));
  if (info.retry_after_s > 0) {
    response.headers.emplace_back("Retry-After", std::to_string(info.retry_after_s));
  }
  return response;
}

http::Response Replies::Account(const http::Request& request, http::Response response) const {
  gate_.AddCors(request, response);
  const auto label = router_.Find(request.method, request.path).label;
  metrics_.CountResponse(label.empty() ? "other" : label, response.status);
  return response;
}

void Replies::LogRefusal(const http::Request& request, int status, std::string_view cause) {
  std::vector<LogField> fields = {{"id", request.id},
                                  {"method", request.method.substr(0, 32)},
                                  {"path", request.path.substr(0, 200)},
                                  {"status", status}};
  if (!cause.empty()) {
    fields.emplace_back("error", cause);
  }
  Log(status == 500 ? LogLevel::kError : LogLevel::kInfo,
      status == 500 ? "request failed" : "request refused", fields);
}

void Replies::Send(http::Exchange& exchange, http::Response response) const {
  exchange.Respond(Account(exchange.request(), std::move(response)));
}

void Replies::SendJson(http::Exchange& exchange, std::string body) const {
  http::Response response;
  response.body = Pieces(std::move(body));
  Send(exchange, std::move(response));
}

void Replies::SendError(http::Exchange& exchange, const api::ErrorInfo& info) const {
  LogRefusal(exchange.request(), info.status, info.cause);
  Send(exchange, ErrorResponse(exchange.request(), info));
}

}  // namespace mach::server
