// Who may send requests: the key, the Host and the Origin that their heads name. Immutable after
// construction; any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "api/errors.h"
#include "http/message.h"

namespace mach::server {

struct GateRules {
  std::string api_key;                    // empty = not checked
  std::vector<std::string> cors_origins;  // beside those of this machine; "*" = any
  // What is listened on. If that is a loopback address, or localhost, requests must name this
  // machine as their Host: a web page whose own name was made to point here does not.
  std::string host;
};

class Gate {
 public:
  explicit Gate(GateRules rules) : rules_(std::move(rules)) {}

  // The part of the API that keys and origins are for: /v1/*, /tokenize and /detokenize.
  static bool IsApi(std::string_view path);

  // Refuses a request for another machine, or of a page that may not call.
  std::optional<api::ErrorInfo> CheckSender(const http::Request& head) const;
  bool KeyMatches(const http::Request& request) const;
  // The request's origin if its pages may call; else empty.
  std::string AllowedOrigin(const http::Request& request) const;
  void AddCors(const http::Request& request, http::Response& response) const;

 private:
  bool OriginNames(std::string_view host) const;
  // Whether the request comes from a page of this server itself, and not from one whose name was
  // made to point here: a page can do that with a name, and not with an address, nor with a key.
  bool FromOwnPage(const http::Request& request) const;

  const GateRules rules_;
};

}  // namespace mach::server
