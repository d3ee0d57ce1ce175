// The endpoints that generate text: from a body on the I/O thread, over a worker that parses,
// renders and tokenises, to an Answer; and those that stop at the tokens. What a request takes of
// memory is booked before each step, and a request that there is no room for is refused. Owns the
// workers.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "api/request.h"
#include "chat/final_message.h"
#include "http/exchange.h"
#include "server/metrics.h"
#include "server/model_host.h"
#include "server/protocol.h"
#include "server/replies.h"
#include "server/request_memory.h"
#include "server/token_query.h"
#include "server/worker_pool.h"

namespace mach::server {

class Generate {
 public:
  // All references outlive this.
  Generate(const api::RequestLimits& limits, chat::ReasoningNames reasoning, int workers,
           size_t max_queued_jobs, ModelHost& host, const Replies& replies, Metrics& metrics)
      : limits_(limits),
        reasoning_(reasoning),
        host_(host),
        replies_(replies),
        metrics_(metrics),
        workers_(workers, max_queued_jobs) {}

  // I/O thread; the model is ready.
  void Handle(const std::shared_ptr<http::Exchange>& exchange, const Protocol& protocol);
  void Handle(const std::shared_ptr<http::Exchange>& exchange, const TokenQuery& query);

  // Waits for running jobs; later requests get a 503.
  void Stop() { workers_.Stop(); }

 private:
  using ExchangePtr = std::shared_ptr<http::Exchange>;
  struct Job;
  using Work = std::function<void(Job&)>;

  // Has a worker do it, if there is room for the request's body.
  void Queue(const ExchangePtr& exchange, Work work);
  void Run(Job& job);
  // Throws api::RequestError if there is no room.
  void Hold(Job& job, uint64_t bytes, const char* what, const char* cure) const;
  void StartAnswer(Job& job, const Protocol& protocol, PreparedRequest prepared);
  void Reply(Job& job, std::string body);
  void Refuse(const ExchangePtr& exchange, const api::ErrorInfo& info);
  // The one line that a generation leaves in the log.
  void LogEnd(const http::Request& request, const AnswerRecord& record, int status) const;

  const api::RequestLimits limits_;
  const chat::ReasoningNames reasoning_;
  ModelHost& host_;
  const Replies& replies_;
  Metrics& metrics_;
  WorkerPool workers_;
};

}  // namespace mach::server
