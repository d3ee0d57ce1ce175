// One request and its response, as a handler sees them: answer whole with Respond, or in pieces
// with StartStream, Write… and Finish. The connection behind it may vanish at any time; then
// OnClose's callback runs and everything else becomes a no-op.
//
// Threads: every member runs on the server's I/O thread, on which handlers are called too, except
// Post, which any thread may call and which is the way back to it. Kept alive by whoever answers.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "http/message.h"

namespace mach::http {

class Exchange : public std::enable_shared_from_this<Exchange> {
 public:
  virtual ~Exchange() = default;

  virtual Request& request() = 0;

  // The request's body, once. What it takes is no longer counted by the server, but by the caller.
  virtual std::string TakeBody() { return std::move(request().body); }

  // Runs `work` on the I/O thread, soon. Never runs it inline. The server's Stop waits until every
  // exchange has been let go, so what is posted always runs.
  virtual void Post(std::function<void()> work) = 0;

  // The whole response. Exactly one of Respond and StartStream is called, once.
  virtual void Respond(Response response) = 0;

  // Sends the head at once; the body follows in pieces. Of a stream of events, `heartbeat` makes
  // what fills silence; null: this is none.
  virtual void StartStream(Response head, std::function<std::string()> heartbeat) = 0;
  virtual void Write(std::string_view data) = 0;
  virtual void Finish() = 0;

  // Bytes accepted by Write that the client has not taken yet. A connection whose backlog passes
  // the server's limit is closed.
  virtual size_t backlog_bytes() const = 0;
  // Called each time the backlog becomes empty.
  virtual void OnDrained(std::function<void()> callback) = 0;

  // Called once if the client goes away, or is thrown out, before the response is complete.
  virtual void OnClose(std::function<void()> callback) = 0;
  virtual bool closed() const = 0;
};

using Handler = std::function<void(const std::shared_ptr<Exchange>&)>;

}  // namespace mach::http
