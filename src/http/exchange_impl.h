// The Exchange that a Session hands to the handler: passes what the handler answers on to the
// connection, as long as there is one. Private to http; the server's I/O thread, but for Post.
#pragma once

#include <array>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>

#include "http/exchange.h"
#include "http/session.h"

namespace mach::http {

class ExchangeImpl : public Exchange {
 public:
  ExchangeImpl(std::shared_ptr<Session> session, Request request)
      : session_(std::move(session)),
        shared_(session_->shared_),
        work_(shared_.io.get_executor()),
        request_(std::move(request)) {}

  Request& request() override { return request_; }
  std::string TakeBody() override;

  void Post(std::function<void()> work) override { boost::asio::post(shared_.io, std::move(work)); }

  void Respond(Response response) override;
  void StartStream(Response head, std::function<std::string()> heartbeat) override;
  void Write(std::string_view data) override;
  void Finish() override;

  size_t backlog_bytes() const override;
  void OnDrained(std::function<void()> callback) override { on_drained_ = std::move(callback); }
  void OnClose(std::function<void()> callback) override;
  bool closed() const override { return closed_; }

  // For the session.
  bool finished() const { return finished_; }
  bool event_stream() const { return heartbeat_ != nullptr && !finished_; }
  bool keep_alive() const { return keep_alive_; }
  void Ping();
  void Drained();
  void ConnectionGone();

 private:
  bool Head() const { return request_.method == "HEAD"; }
  void End();

  std::shared_ptr<Session> session_;  // null once finished or gone
  ServerShared& shared_;
  // The I/O thread goes on while somebody may Post.
  const boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
  Request request_;
  bool started_ = false;
  bool finished_ = false;
  bool closed_ = false;
  bool chunked_ = false;
  bool keep_alive_ = true;
  std::function<void()> on_close_;
  std::function<void()> on_drained_;
  std::function<std::string()> heartbeat_;
};

}  // namespace mach::http
