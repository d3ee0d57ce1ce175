#include "http/server.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "base/clock.h"
#include "base/log.h"
#include "http/listeners.h"
#include "http/session.h"

namespace mach::http {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

constexpr size_t kScratchBytes = 64 << 10;
constexpr auto kTick = std::chrono::milliseconds(100);
// Connections beyond the maximum that are still told so with a 503.
constexpr size_t kRefusedConnections = 64;

}  // namespace

struct Server::Impl {
  Impl(ServerOptions options, Handler handler) : ticker(shared.io) {
    shared.options = std::move(options);
    shared.handler = std::move(handler);
    shared.scratch.resize(kScratchBytes);
    shared.on_session_end = [this] { PublishCount(); };
  }

  void Listen();
  void StopListening();
  asio::awaitable<void> Accept(asio::ip::tcp::acceptor& acceptor);
  asio::awaitable<void> Ticks();
  void PublishCount();

  ServerShared shared;
  Acceptors acceptors;
  asio::steady_timer ticker;
  int port = 0;
  std::string addresses;
  bool stopping = false;  // I/O thread
  std::thread thread;
  std::atomic<int> count{0};
  std::mutex mutex;
  std::condition_variable idle;
};

void Server::Impl::Listen() {
  const ServerOptions& options = shared.options;
  acceptors =
      ListenOnAll(shared.io, options.host, ResolveHost(shared.io, options.host), options.port);
  port = acceptors.front().local_endpoint().port();
  for (const asio::ip::tcp::acceptor& acceptor : acceptors) {
    addresses += (addresses.empty() ? "" : " ") + acceptor.local_endpoint().address().to_string();
  }
}

void Server::Impl::StopListening() {
  for (asio::ip::tcp::acceptor& acceptor : acceptors) {
    error_code ec;
    acceptor.close(ec);
  }
}

void Server::Impl::PublishCount() {
  const int now = static_cast<int>(shared.sessions.size());
  {
    const std::lock_guard lock(mutex);
    count.store(now, std::memory_order_relaxed);
  }
  idle.notify_all();
}

asio::awaitable<void> Server::Impl::Accept(asio::ip::tcp::acceptor& acceptor) {
  asio::steady_timer pause(shared.io);
  while (acceptor.is_open()) {
    error_code ec;
    asio::ip::tcp::socket socket =
        co_await acceptor.async_accept(asio::redirect_error(asio::use_awaitable, ec));
    if (ec == asio::error::operation_aborted || !acceptor.is_open()) {
      break;
    }
    if (ec) {
      // Out of file descriptors, most likely: the connection stays in the backlog meanwhile.
      LogWarning("accept failed", {{"error", ec.message()}});
      pause.expires_after(std::chrono::milliseconds(50));
      co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, ec));
      continue;
    }
    const auto maximum = static_cast<size_t>(shared.options.max_connections);
    if (shared.sessions.size() >= maximum + kRefusedConnections) {
      socket.close(ec);
      continue;
    }
    const bool refuse = shared.sessions.size() >= maximum;
    std::make_shared<Session>(shared, std::move(socket), refuse)->Start();
    PublishCount();
  }
}

asio::awaitable<void> Server::Impl::Ticks() {
  while (true) {
    error_code ec;
    ticker.expires_after(kTick);
    co_await ticker.async_wait(asio::redirect_error(asio::use_awaitable, ec));
    // A cancel that comes when the wait has just ended finds nothing to cancel.
    if (ec || stopping) {
      co_return;
    }
    const double now_s = NowSeconds();
    // A session may end, and leave the set, while it is ticked.
    std::vector<std::shared_ptr<Session>> alive;
    alive.reserve(shared.sessions.size());
    for (Session* session : shared.sessions) {
      alive.push_back(session->shared_from_this());
    }
    for (const auto& session : alive) {
      session->Tick(now_s);
    }
  }
}

Server::Server(ServerOptions options, Handler handler)
    : impl_(std::make_unique<Impl>(std::move(options), std::move(handler))) {
  impl_->Listen();
}

Server::~Server() {
  Stop();
}

int Server::port() const {
  return impl_->port;
}

std::string Server::addresses() const {
  return impl_->addresses;
}

int Server::connections() const {
  return impl_->count.load(std::memory_order_relaxed);
}

void Server::Start() {
  Impl* impl = impl_.get();
  for (asio::ip::tcp::acceptor& acceptor : impl->acceptors) {
    asio::co_spawn(
        impl->shared.io, [impl, &acceptor] { return impl->Accept(acceptor); }, asio::detached);
  }
  asio::co_spawn(
      impl->shared.io, [impl] { return impl->Ticks(); }, asio::detached);
  impl->thread = std::thread([impl] { impl->shared.io.run(); });
}

void Server::Drain() {
  asio::post(impl_->shared.io, [impl = impl_.get()] {
    impl->StopListening();
    impl->shared.draining = true;
    std::vector<std::shared_ptr<Session>> alive;
    for (Session* session : impl->shared.sessions) {
      alive.push_back(session->shared_from_this());
    }
    for (const auto& session : alive) {
      session->Drain();
    }
    impl->PublishCount();
  });
}

bool Server::WaitUntilIdle(double timeout_s) {
  std::unique_lock lock(impl_->mutex);
  return impl_->idle.wait_for(lock, std::chrono::duration<double>(timeout_s),
                              [this] { return impl_->count.load(std::memory_order_relaxed) == 0; });
}

void Server::Stop() {
  if (!impl_->thread.joinable()) {
    return;
  }
  asio::post(impl_->shared.io, [impl = impl_.get()] {
    impl->StopListening();
    impl->stopping = true;
    impl->ticker.cancel();
    impl->shared.draining = true;
    std::vector<std::shared_ptr<Session>> alive;
    for (Session* session : impl->shared.sessions) {
      alive.push_back(session->shared_from_this());
    }
    for (const auto& session : alive) {
      session->Abort();
    }
  });
  // With every socket closed, the timers cancelled and the exchanges gone, the loop runs out of
  // work by itself, and no coroutine is left behind to be destroyed in an unusual order.
  impl_->thread.join();
}

}  // namespace mach::http
