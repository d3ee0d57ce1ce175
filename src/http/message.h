// One HTTP request and one response as plain data. Not a parser (request_reader.h) and no sockets.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/pieces.h"

namespace mach::http {

using HeaderList = std::vector<std::pair<std::string, std::string>>;

struct Request {
  std::string id;      // the client's X-Request-Id if it is a plain token, else generated
  std::string method;  // as sent: "GET"
  std::string path;    // percent-encoded as sent, without the query
  std::string query;   // after '?', may be empty
  HeaderList headers;  // in order
  std::string body;
  bool http10 = false;
  bool keep_alive = true;

  // The first header of this name (any case); empty if absent.
  std::string_view Header(std::string_view name) const;
};

struct Response {
  int status = 200;
  std::string content_type = "application/json";
  Pieces body;
  HeaderList headers;
  bool close = false;           // end the connection after this response
  std::shared_ptr<void> holds;  // let go once the whole response has left, or its client
};

// "OK" for 200.
std::string_view ReasonPhrase(int status);

// ASCII comparison that ignores case.
bool EqualsIgnoreCase(std::string_view a, std::string_view b);

// Decodes %XX; broken escapes stay as they are.
std::string PercentDecode(std::string_view text);

// Status line and headers with the blank line. `framing` is "Content-Length: 5" or its like, empty
// for none.
std::string FormatHead(const Response& response, std::string_view framing,
                       std::string_view request_id, bool keep_alive);

}  // namespace mach::http
