// The HTTP application: route table, checks that every request passes, and what answers. Does not
// own sockets (http::Server calls Handle) nor the model (ModelHost). Handle, RefuseHead, HttpError
// and BookBodies run on the I/O thread.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/errors.h"
#include "api/request.h"
#include "chat/final_message.h"
#include "http/exchange.h"
#include "http/router.h"
#include "server/gate.h"
#include "server/generate.h"
#include "server/metrics.h"
#include "server/model_host.h"
#include "server/replies.h"
#include "server/reports.h"

namespace mach::server {

struct AppOptions {
  GateRules gate;
  api::RequestLimits limits;
  chat::ReasoningNames reasoning;
  int workers = 2;
  size_t max_queued_jobs = 1024;
  bool page = true;  // a page for people at `/`
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
  // Likewise: whether there is memory for the bodies that are being read, all of them together.
  bool BookBodies(uint64_t bytes);

  // Number of open connections, for /metrics.
  void SetConnectionCounter(std::function<int()> counter) { connections_ = std::move(counter); }

  // Waits for running jobs; later requests get a 503.
  void Stop() { generate_.Stop(); }

 private:
  using ExchangePtr = std::shared_ptr<http::Exchange>;

  std::vector<http::Route> MakeRoutes();
  // Host, origin, key, route, method, encoding, still loading: what the head alone decides.
  std::optional<http::Response> CheckHead(const http::Request& head) const;
  void Options(const ExchangePtr& exchange, const http::Router::Match& match);
  void ReplyModel(http::Exchange& exchange, const std::string& id);
  void ReplyMetrics(http::Exchange& exchange);
  void ReplyPage(http::Exchange& exchange, std::string_view name);

  const AppOptions options_;
  ModelHost& host_;
  Metrics metrics_;
  std::function<int()> connections_;
  const Gate gate_;
  const http::Router router_;
  const Replies replies_;
  Generate generate_;
  std::optional<RequestMemory::Hold> bodies_;  // none until the model is ready
};

}  // namespace mach::server
