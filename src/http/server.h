// An HTTP/1.1 server on one I/O thread: listener, keep-alive, pipelining, limits, timeouts, chunked
// and event-stream responses. Knows nothing of models: requests go to one Handler (usually a
// Router's).
//
// The handler runs on the I/O thread and must not block it. The Server must outlive every Exchange,
// which Stop waits for. Start, Drain and Stop are called by the owner's thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "http/exchange.h"

namespace mach::http {

struct ServerOptions {
  std::string host = "127.0.0.1";  // an address, or a name: every address of this machine it has
  int port = 8080;                 // 0 = one that is free on all of them
  int max_connections = 1024;
  size_t max_head_bytes = 32 << 10;
  uint64_t max_body_bytes = 64ULL << 20;
  uint64_t max_bodies_bytes = 512ULL << 20;  // of all requests together, until they are taken
  size_t max_pipelined_bytes = 64 << 10;     // read ahead while a request is being answered
  size_t max_backlog_bytes = 1 << 20;        // written by the handler, not yet taken by the client
  double idle_timeout_s = 75;                // between requests
  double head_timeout_s = 10;  // from the first byte of a request to the end of its headers
  double body_timeout_s = 30;  // for the body, plus its size at min_body_rate
  double min_body_rate_bytes_s = 64 << 10;
  double write_timeout_s = 30;  // without the client taking a byte
  double ping_interval_s = 10;  // of silence in an event stream
  double linger_s = 5;          // reading on after refusing a body, so that the refusal arrives

  // The response of an error that the HTTP layer itself answers with. `head` is as much of the
  // request as was read; its id is there in any case.
  std::function<Response(const Request& head, int status, std::string_view message)> make_error;
  // Told of all bytes of bodies that are held, each time they change. False: there is no memory for
  // more, and the request that brought them is refused. None: only max_bodies_bytes counts.
  std::function<bool(uint64_t bytes)> book_bodies;
  // Looks at a head whose body has not been sent yet (Expect: 100-continue, or a large one). A
  // response refuses it without reading the body; the handler is not asked then.
  std::function<std::optional<Response>(const Request& head)> check_head;
};

class Server {
 public:
  // Binds and listens. Throws kIo naming the address if that fails.
  Server(ServerOptions options, Handler handler);
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server();  // Stop()

  int port() const;               // the real one
  std::string addresses() const;  // that are listened on, with spaces between them

  void Start();

  // Stops accepting and closes idle connections; responses under way go on. Returns at once.
  void Drain();
  // True once no connection is left; waits for that up to `timeout_s`.
  bool WaitUntilIdle(double timeout_s);
  // Closes every connection, waits until all exchanges have been let go, and joins the I/O thread.
  // Idempotent.
  void Stop();

  int connections() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mach::http
