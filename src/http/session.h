// One connection of the server: reads requests, hands them to the handler one after another, writes
// responses, watches for the client going away meanwhile. Private to http; everything runs on the
// server's I/O thread. Kept alive by its own coroutine and by exchanges still in use.
#pragma once

#include <limits>
#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>

#include "http/request_reader.h"
#include "http/server.h"

namespace mach::http {

class Session;

// What the sessions of a server share.
struct ServerShared {
  ServerOptions options;
  Handler handler;
  std::unordered_set<Session*> sessions;
  uint64_t body_bytes = 0;  // held by requests of all sessions
  bool draining = false;
  std::vector<char> scratch;  // where every read lands first: idle connections hold no buffer
  std::function<void()> on_session_end;
  // Last, so that work still queued in it is destroyed before what it refers to.
  boost::asio::io_context io{1};
};

class ExchangeImpl;

class Session : public std::enable_shared_from_this<Session> {
 public:
  // `refuse`: there are too many connections; the first request gets a 503.
  Session(ServerShared& shared, boost::asio::ip::tcp::socket socket, bool refuse);
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  ~Session();

  void Start();
  void Drain();             // close now if no request is under way
  void Abort();             // close now
  void Tick(double now_s);  // deadlines and pings

 private:
  friend class ExchangeImpl;
  using Reader = RequestReader;

  enum class Phase { kIdle, kHead, kBody, kAnswering, kLingering };
  enum class Outcome { kRequest, kRefused, kGone };

  boost::asio::awaitable<void> Run();
  boost::asio::awaitable<Outcome> ReadRequest(Request* request);
  boost::asio::awaitable<void> Answer(Request request);
  boost::asio::awaitable<void> Refuse(int status, std::string message, Request head);
  boost::asio::awaitable<void> SendRefusal(Response response, const Request& head);
  boost::asio::awaitable<void> Linger();
  boost::asio::awaitable<void> WriteAll();
  boost::asio::awaitable<void> WaitForWake();

  void BeginRead();
  void OnReadable(const boost::system::error_code& ec);
  void Wake();
  void Send(std::string_view data);  // now if possible, else into out_
  void SendBody(Pieces body, std::shared_ptr<void> holds);
  // What the request takes that is being read or answered. False if there is no room for it.
  bool CountBody(uint64_t bytes);
  void Close();
  void NotifyGone();

  ServerShared& shared_;
  boost::asio::ip::tcp::socket socket_;
  boost::asio::steady_timer wake_;
  bool refuse_;
  Phase phase_ = Phase::kIdle;
  double deadline_s_ = std::numeric_limits<double>::infinity();
  double write_deadline_s_ = std::numeric_limits<double>::infinity();
  double last_write_s_ = 0;
  bool reading_ = false;
  bool eof_ = false;
  bool timed_out_ = false;
  bool closed_ = false;
  bool writing_now_ = false;  // the coroutine is inside a write of in_flight_
  std::string in_;
  Pieces out_;
  std::string in_flight_;
  std::shared_ptr<void> holds_;  // of the response in out_
  uint64_t counted_body_bytes_ = 0;
  std::shared_ptr<ExchangeImpl> current_;
};

}  // namespace mach::http
