// The HTTP application: route table, checks that every request passes, and the handlers. Owns the
// worker pool; does not own sockets (http::Server calls Handle) nor the model (ModelHost).
// Handle, RefuseHead and HttpError run on the I/O thread.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/errors.h"
#include "api/request.h"
#include "http/exchange.h"
#include "http/router.h"
#include "server/generation.h"
#include "server/metrics.h"
#include "server/model_host.h"
#include "server/reports.h"
#include "server/worker_pool.h"

namespace mach::server {

struct AppOptions {
  std::string api_key;                    // empty = not checked
  std::vector<std::string> cors_origins;  // beside those of this machine; "*" = any
  // What is listened on. If that is a loopback address, or localhost, requests must name this
  // machine as their Host: a web page whose own name was made to point here does not.
  std::string host;
  api::RequestLimits limits;
  int workers = 2;
  size_t max_queued_jobs = 1024;
};

class App {
 public:
  App(AppOptions options, ModelHost& host);
  App(const App&) = delete;
  App& operator=(const App&) = delete;
  ~App();

  void Handle(const std::shared_ptr<http::Exchange>& exchange);

  // For http::ServerOptions: the error that the HTTP layer finds by itself, and the refusal that
  // the head alone decides. Both are logged and counted here, once, as they are about to be sent.
  http::Response HttpError(const http::Request& head, int status, std::string_view message);
  std::optional<http::Response> RefuseHead(const http::Request& head);

  // Number of open connections, for /metrics.
  void SetConnectionCounter(std::function<int()> counter) { connections_ = std::move(counter); }

  // Waits for running jobs; later requests get a 503.
  void Stop() { workers_.Stop(); }

 private:
  using ExchangePtr = std::shared_ptr<http::Exchange>;

  std::vector<http::Route> MakeRoutes();
  // Host, origin, key, route, method, encoding, still loading: what the head alone decides.
  std::optional<http::Response> CheckHead(const http::Request& head) const;
  std::optional<api::ErrorInfo> CheckSender(const http::Request& head) const;
  bool KeyMatches(const http::Request& request) const;
  bool OriginNames(std::string_view host) const;
  std::string AllowedOrigin(const http::Request& request) const;
  void AddCors(const http::Request& request, http::Response& response) const;
  static http::Response ErrorResponse(const api::ErrorInfo& info);
  // What every whole response passes: the CORS headers are added and it is counted.
  http::Response Account(const http::Request& request, http::Response response);
  static void LogRefusal(const http::Request& request, int status, std::string_view cause);
  // Sends what a handler answers. An error is logged, with its cause where that says more than the
  // client is told or is no fault of the client's.
  void Reply(http::Exchange& exchange, http::Response response, std::string_view cause = "");
  void ReplyJson(http::Exchange& exchange, std::string body);
  void Options(const ExchangePtr& exchange, const http::Router::Match& match);
  void Generate(const ExchangePtr& exchange, api::ResponseKind kind);
  void RunGeneration(const ExchangePtr& exchange, api::ResponseKind kind, double arrived_s);
  // The one line that a generation leaves in the log.
  void LogEnd(const http::Request& request, const GenerationRecord& record, int status) const;

  const AppOptions options_;
  ModelHost& host_;
  Metrics metrics_;
  std::function<int()> connections_;
  http::Router router_;
  WorkerPool workers_;
};

}  // namespace mach::server
