// Incremental HTTP/1.x request parser: bytes in, a Request out. No sockets, no timeouts: the
// session (session.h) reads and keeps time. Wraps Boost.Beast's parser so that only one source file
// compiles it. One per request; one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "http/message.h"

namespace mach::http {

class RequestReader {
 public:
  enum class Status {
    kNeedMore,  // feed again with the unconsumed rest and more bytes
    kHeadDone,  // reported once, before any body byte is consumed, if there is a body
    kDone,      // TakeRequest may be called
    kBad,       // not HTTP/1.x; fault() says why
    kHeadTooLarge,
    kBodyTooLarge,  // announced or sent
  };

  RequestReader(size_t max_head_bytes, uint64_t max_body_bytes);
  RequestReader(const RequestReader&) = delete;
  RequestReader& operator=(const RequestReader&) = delete;
  ~RequestReader();

  // Consumes bytes from the front of `data` and returns how many. After kBad and the kTooLarge
  // states the reader is unusable.
  size_t Feed(std::string_view data, Status* status);

  bool head_done() const;
  // Valid once the head is done.
  bool expects_continue() const;
  std::optional<uint64_t> content_length() const;
  size_t body_bytes_read() const;

  // For the client, after kBad.
  std::string fault() const;

  // The head alone (body empty); before it is done, as much of it as was read.
  Request Head() const;
  // Head and body, after kDone; call once.
  Request TakeRequest();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// 24 hex digits, unique in this process and unlikely to repeat elsewhere.
std::string NewRequestId();

}  // namespace mach::http
