#include "http/session.h"

#include <exception>

#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>

#include "base/clock.h"
#include "base/log.h"
#include "http/exchange_impl.h"

namespace mach::http {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

constexpr double kNever = std::numeric_limits<double>::infinity();
// Small requests may as well be read to their end before they are refused.
constexpr uint64_t kSmallBodyBytes = 64 << 10;
constexpr double kDrainLingerS = 0.5;
constexpr uint64_t kLingerBytes = 512ULL << 20;

}  // namespace

Session::Session(ServerShared& shared, asio::ip::tcp::socket socket, bool refuse)
    : shared_(shared), socket_(std::move(socket)), wake_(shared.io), refuse_(refuse) {
  shared_.sessions.insert(this);
}

Session::~Session() {
  CountBody(0);
  shared_.sessions.erase(this);
  if (shared_.on_session_end) {
    shared_.on_session_end();
  }
}

void Session::Start() {
  error_code ec;
  socket_.non_blocking(true, ec);
  socket_.set_option(asio::ip::tcp::no_delay(true), ec);
  wake_.expires_at(asio::steady_timer::time_point::max());
  asio::co_spawn(
      shared_.io, [self = shared_from_this()] { return self->Run(); },
      [self = shared_from_this()](const std::exception_ptr& failure) {
        if (failure) {
          try {
            std::rethrow_exception(failure);
          } catch (const std::exception& e) {
            LogError("connection failed", {{"error", e.what()}});
          }
        }
        self->Close();
      });
}

// --- events -----------------------------------------------------------------------------------

void Session::Wake() {
  wake_.cancel();
}

asio::awaitable<void> Session::WaitForWake() {
  error_code ec;
  co_await wake_.async_wait(asio::redirect_error(asio::use_awaitable, ec));
}

void Session::BeginRead() {
  if (reading_ || eof_ || closed_) {
    return;
  }
  reading_ = true;
  socket_.async_wait(asio::ip::tcp::socket::wait_read,
                     [self = shared_from_this()](const error_code& ec) { self->OnReadable(ec); });
}

void Session::OnReadable(const error_code& wait_error) {
  reading_ = false;
  if (closed_) {
    return;
  }
  error_code ec = wait_error;
  size_t got = 0;
  if (!ec) {
    got = socket_.read_some(asio::buffer(shared_.scratch), ec);
  }
  if (ec == asio::error::would_block || ec == asio::error::interrupted) {
    BeginRead();
    return;
  }
  if (ec) {
    eof_ = true;
  } else if (phase_ != Phase::kLingering) {
    in_.append(shared_.scratch.data(), got);
  } else {
    counted_body_bytes_ += got;  // only a measure of patience here: nothing is kept
  }
  if (phase_ == Phase::kAnswering) {
    if (eof_ || in_.size() > shared_.options.max_pipelined_bytes) {
      NotifyGone();
    } else {
      BeginRead();
    }
    return;
  }
  Wake();
}

void Session::NotifyGone() {
  // A client that closed its side after asking is taken to be gone, as proxies and other servers
  // do.
  if (current_ == nullptr || current_->finished()) {
    return;
  }
  Close();
}

void Session::Tick(double now_s) {
  if (closed_) {
    return;
  }
  if (now_s > write_deadline_s_ || (phase_ == Phase::kLingering && now_s > deadline_s_)) {
    Close();
    return;
  }
  if (now_s > deadline_s_) {
    deadline_s_ = kNever;
    timed_out_ = true;
    Wake();
  }
  if (phase_ == Phase::kAnswering && current_ != nullptr && current_->event_stream() &&
      out_.empty() && !writing_now_ && now_s - last_write_s_ >= shared_.options.ping_interval_s) {
    current_->Ping();
  }
}

void Session::Drain() {
  if (phase_ == Phase::kIdle) {
    Close();
  }
}

void Session::Abort() {
  Close();
}

void Session::Close() {
  if (closed_) {
    return;
  }
  closed_ = true;
  error_code ec;
  socket_.close(ec);
  out_ = Pieces();
  holds_.reset();
  Wake();
  if (const auto exchange = current_) {
    exchange->ConnectionGone();
  }
}

bool Session::CountBody(uint64_t bytes) {
  if (bytes == counted_body_bytes_) {
    return true;
  }
  shared_.body_bytes -= counted_body_bytes_;
  counted_body_bytes_ = bytes;
  shared_.body_bytes += bytes;
  const ServerOptions& options = shared_.options;
  const bool booked = !options.book_bodies || options.book_bodies(shared_.body_bytes);
  return booked && shared_.body_bytes <= options.max_bodies_bytes;
}

// --- writing ----------------------------------------------------------------------------------

void Session::Send(std::string_view data) {
  if (closed_) {
    return;
  }
  // Most writes fit into the socket's buffer: no trip through the event loop for them.
  if (out_.empty() && !writing_now_) {
    error_code ec;
    const size_t sent = socket_.write_some(asio::buffer(data.data(), data.size()), ec);
    if (ec && ec != asio::error::would_block && ec != asio::error::interrupted) {
      // Not closed here: the handler is in the middle of a call. The coroutine sees it.
      eof_ = true;
      asio::post(shared_.io, [self = shared_from_this()] { self->Close(); });
      return;
    }
    last_write_s_ = NowSeconds();
    data.remove_prefix(ec ? 0 : sent);
    if (data.empty()) {
      return;
    }
  }
  out_.Append(data);
  if (out_.size_bytes() > shared_.options.max_backlog_bytes && current_ != nullptr &&
      current_->event_stream()) {
    LogWarning("client does not read: connection closed", {{"backlog_bytes", out_.size_bytes()}});
    asio::post(shared_.io, [self = shared_from_this()] { self->Close(); });
    return;
  }
  Wake();
}

void Session::SendBody(Pieces body, std::shared_ptr<void> holds) {
  if (closed_) {
    return;
  }
  out_.Append(std::move(body));
  holds_ = std::move(holds);
  Wake();
}

asio::awaitable<void> Session::WriteAll() {
  while (!out_.empty() && !closed_) {
    in_flight_ = out_.TakeFront();
    writing_now_ = true;
    size_t done = 0;
    while (done < in_flight_.size() && !closed_) {
      write_deadline_s_ = NowSeconds() + shared_.options.write_timeout_s;
      error_code ec;
      done += co_await socket_.async_write_some(
          asio::buffer(in_flight_.data() + done, in_flight_.size() - done),
          asio::redirect_error(asio::use_awaitable, ec));
      if (ec) {
        writing_now_ = false;
        write_deadline_s_ = kNever;
        Close();
        co_return;
      }
    }
    std::string().swap(in_flight_);
    writing_now_ = false;
    write_deadline_s_ = kNever;
    last_write_s_ = NowSeconds();
  }
  holds_.reset();
}

// --- one request after another -----------------------------------------------------------------

asio::awaitable<void> Session::Run() {
  while (!closed_) {
    Request request;
    const Outcome outcome = co_await ReadRequest(&request);
    if (outcome != Outcome::kRequest) {
      break;
    }
    co_await Answer(std::move(request));
    CountBody(0);
    const bool again = current_ != nullptr && current_->finished() && current_->keep_alive();
    current_ = nullptr;
    if (!again || closed_ || shared_.draining) {
      break;
    }
  }
  if (!closed_) {
    error_code ec;
    socket_.shutdown(asio::ip::tcp::socket::shutdown_send, ec);
    co_await Linger();
  }
}

asio::awaitable<Session::Outcome> Session::ReadRequest(Request* request) {
  const ServerOptions& options = shared_.options;
  Reader reader(options.max_head_bytes, options.max_body_bytes);
  phase_ = in_.empty() ? Phase::kIdle : Phase::kHead;
  timed_out_ = false;
  deadline_s_ = NowSeconds() + (in_.empty() ? options.idle_timeout_s : options.head_timeout_s);
  double body_start_s = 0;
  bool fresh = !in_.empty();
  while (true) {
    if (fresh) {
      fresh = false;
      Reader::Status status = Reader::Status::kNeedMore;
      // Empty lines before a request are allowed (RFC 9112, 2.2).
      size_t skip = 0;
      while (phase_ != Phase::kBody && skip < in_.size() &&
             (in_[skip] == '\r' || in_[skip] == '\n') && !reader.head_done()) {
        ++skip;
      }
      in_.erase(0, skip);
      if (phase_ == Phase::kIdle && !in_.empty()) {
        phase_ = Phase::kHead;
        deadline_s_ = NowSeconds() + options.head_timeout_s;
      }
      in_.erase(0, reader.Feed(in_, &status));
      if (reader.head_done() && !CountBody(reader.body_bytes_read())) {
        co_await Refuse(503, "Too many large requests at once.", reader.Head());
        co_return Outcome::kRefused;
      }
      switch (status) {
        case Reader::Status::kDone:
          deadline_s_ = kNever;
          *request = reader.TakeRequest();
          if (refuse_) {
            co_await Refuse(503, "Too many connections.", *request);
            co_return Outcome::kRefused;
          }
          co_return Outcome::kRequest;
        case Reader::Status::kBad:
          co_await Refuse(400, reader.fault(), reader.Head());
          co_return Outcome::kRefused;
        case Reader::Status::kHeadTooLarge:
          co_await Refuse(431, "The request's headers are too large.", reader.Head());
          co_return Outcome::kRefused;
        case Reader::Status::kBodyTooLarge:
          co_await Refuse(413,
                          "The request body is larger than " +
                              std::to_string(options.max_body_bytes) + " bytes.",
                          reader.Head());
          co_return Outcome::kRefused;
        case Reader::Status::kHeadDone: {
          phase_ = Phase::kBody;
          body_start_s = NowSeconds();
          const Request head = reader.Head();
          const bool small = reader.content_length().value_or(UINT64_MAX) <= kSmallBodyBytes;
          if (refuse_) {
            co_await Refuse(503, "Too many connections.", head);
            co_return Outcome::kRefused;
          }
          if ((reader.expects_continue() || !small) && options.check_head) {
            if (auto refusal = options.check_head(head)) {
              co_await SendRefusal(std::move(*refusal), head);
              co_return Outcome::kRefused;
            }
          }
          if (reader.expects_continue() && in_.empty()) {
            Send("HTTP/1.1 100 Continue\r\n\r\n");
          }
          deadline_s_ = body_start_s + options.body_timeout_s;
          fresh = !in_.empty();
          continue;
        }
        case Reader::Status::kNeedMore:
          break;
      }
      if (in_.size() > options.max_head_bytes + shared_.scratch.size()) {
        // The parser holds back only heads and chunk headers.
        co_await Refuse(400, reader.fault(), reader.Head());
        co_return Outcome::kRefused;
      }
      if (phase_ == Phase::kBody) {
        deadline_s_ = body_start_s + options.body_timeout_s +
                      static_cast<double>(reader.body_bytes_read()) / options.min_body_rate_bytes_s;
      }
    }
    if (closed_ || eof_) {
      co_return Outcome::kGone;
    }
    if (timed_out_) {
      if (phase_ != Phase::kIdle) {
        co_await Refuse(408, "The request did not arrive in time.", reader.Head());
      }
      co_return Outcome::kRefused;
    }
    if (!out_.empty()) {
      co_await WriteAll();
    }
    const size_t before = in_.size();
    BeginRead();
    co_await WaitForWake();
    fresh = in_.size() != before;
  }
}

asio::awaitable<void> Session::Answer(Request request) {
  phase_ = Phase::kAnswering;
  last_write_s_ = NowSeconds();
  const auto exchange = std::make_shared<ExchangeImpl>(shared_from_this(), std::move(request));
  current_ = exchange;
  shared_.handler(exchange);
  while (!closed_ && (!exchange->finished() || !out_.empty())) {
    if (!out_.empty()) {
      co_await WriteAll();
      if (!closed_ && out_.empty()) {
        exchange->Drained();
      }
      continue;
    }
    // A pending read is how a vanished client is noticed.
    if (eof_) {
      NotifyGone();
      continue;
    }
    BeginRead();
    co_await WaitForWake();
  }
}

asio::awaitable<void> Session::Refuse(int status, std::string message, Request head) {
  co_await SendRefusal(shared_.options.make_error(head, status, message), head);
}

asio::awaitable<void> Session::SendRefusal(Response response, const Request& head) {
  response.close = true;
  std::string text =
      FormatHead(response, "Content-Length: " + std::to_string(response.body.size_bytes()), head.id,
                 /*keep_alive=*/false);
  if (head.method != "HEAD") {
    text += response.body.Join();
  }
  deadline_s_ = kNever;
  Send(text);
  co_await WriteAll();
}

asio::awaitable<void> Session::Linger() {
  // Closing with unread bytes in the socket would reset the connection and could destroy the
  // response on its way to a client that is still sending.
  CountBody(0);
  phase_ = Phase::kLingering;
  in_.clear();
  deadline_s_ = NowSeconds() + (shared_.draining ? kDrainLingerS : shared_.options.linger_s);
  uint64_t seen = 0;
  while (!closed_ && !eof_ && seen < kLingerBytes) {
    BeginRead();
    co_await WaitForWake();
    seen += counted_body_bytes_;
    counted_body_bytes_ = 0;
  }
  counted_body_bytes_ = 0;
  Close();
}

}  // namespace mach::http
