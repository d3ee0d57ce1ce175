#include "http/exchange_impl.h"

#include "base/check.h"

namespace mach::http {
namespace {

// As much of a body goes out in one write with its head.
constexpr size_t kShortBodyBytes = 64 << 10;

}  // namespace

std::string ExchangeImpl::TakeBody() {
  if (session_ != nullptr) {
    session_->CountBody(0);
  }
  return std::move(request_.body);
}

void ExchangeImpl::Respond(Response response) {
  if (closed_) {
    return;
  }
  MACH_CHECK(!started_);
  started_ = true;
  keep_alive_ = request_.keep_alive && !response.close && !shared_.draining;
  const bool no_body = response.status == 204 || response.status == 304;
  std::string text = FormatHead(
      response, no_body ? "" : "Content-Length: " + std::to_string(response.body.size_bytes()),
      request_.id, keep_alive_);
  const bool long_body = response.body.size_bytes() > kShortBodyBytes;
  if (!Head() && !long_body) {
    text += response.body.Join();
  }
  session_->Send(text);
  if (!Head() && long_body) {
    session_->SendBody(std::move(response.body), std::move(response.holds));
  }
  End();
}

void ExchangeImpl::StartStream(Response head, std::function<std::string()> heartbeat) {
  if (closed_) {
    return;
  }
  MACH_CHECK(!started_);
  started_ = true;
  heartbeat_ = std::move(heartbeat);
  // HTTP/1.0 has no chunks: there the end of the connection is the end of the body.
  chunked_ = !request_.http10;
  keep_alive_ = chunked_ && request_.keep_alive && !head.close && !shared_.draining;
  session_->Send(
      FormatHead(head, chunked_ ? "Transfer-Encoding: chunked" : "", request_.id, keep_alive_));
}

void ExchangeImpl::Write(std::string_view data) {
  if (closed_ || finished_ || data.empty() || Head()) {
    return;
  }
  if (!chunked_) {
    session_->Send(data);
    return;
  }
  std::array<char, 24> size;
  const int length = std::snprintf(size.data(), size.size(), "%zx\r\n", data.size());
  std::string chunk;
  chunk.reserve(data.size() + static_cast<size_t>(length) + 2);
  chunk.append(size.data(), static_cast<size_t>(length));
  chunk += data;
  chunk += "\r\n";
  session_->Send(chunk);
}

void ExchangeImpl::Finish() {
  if (closed_ || finished_) {
    return;
  }
  if (chunked_ && !Head()) {
    session_->Send("0\r\n\r\n");
  }
  End();
}

void ExchangeImpl::End() {
  finished_ = true;
  on_close_ = nullptr;
  on_drained_ = nullptr;
  heartbeat_ = nullptr;
  const auto session = std::move(session_);
  if (session != nullptr) {
    session->Wake();
  }
}

size_t ExchangeImpl::backlog_bytes() const {
  return session_ == nullptr ? 0 : session_->out_.size_bytes() + session_->in_flight_.size();
}

void ExchangeImpl::OnClose(std::function<void()> callback) {
  if (finished_) {
    return;
  }
  if (closed_) {
    callback();
    return;
  }
  on_close_ = std::move(callback);
}

void ExchangeImpl::Ping() {
  Write(heartbeat_());
}

void ExchangeImpl::Drained() {
  if (on_drained_ && !finished_ && !closed_) {
    // The callback may finish the exchange, which drops it.
    const auto callback = on_drained_;
    callback();
  }
}

void ExchangeImpl::ConnectionGone() {
  if (finished_ || closed_) {
    return;
  }
  closed_ = true;
  session_ = nullptr;
  on_drained_ = nullptr;
  heartbeat_ = nullptr;
  const auto callback = std::move(on_close_);
  on_close_ = nullptr;
  if (callback) {
    callback();
  }
}

}  // namespace mach::http
