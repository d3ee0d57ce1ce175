// Whole responses on their way out: errors become JSON, every response is counted and gets its CORS
// headers, every refusal leaves one line in the log. I/O thread.
#pragma once

#include <string>
#include <string_view>

#include "api/errors.h"
#include "http/exchange.h"
#include "http/router.h"
#include "server/gate.h"
#include "server/metrics.h"

namespace mach::server {

// In the way of the protocol that the request's path belongs to.
http::Response ErrorResponse(const http::Request& request, const api::ErrorInfo& info);

class Replies {
 public:
  // All outlive this.
  Replies(const Gate& gate, const http::Router& router, Metrics& metrics)
      : gate_(gate), router_(router), metrics_(metrics) {}

  // What every response passes, whole or the head of a stream.
  http::Response Account(const http::Request& request, http::Response response) const;
  // An error of a request that never was a generation. `cause` is what the log has beyond what the
  // client is told.
  static void LogRefusal(const http::Request& request, int status, std::string_view cause);

  void Send(http::Exchange& exchange, http::Response response) const;
  void SendJson(http::Exchange& exchange, std::string body) const;
  void SendError(http::Exchange& exchange, const api::ErrorInfo& info) const;

 private:
  const Gate& gate_;
  const http::Router& router_;
  Metrics& metrics_;
};

}  // namespace mach::server
