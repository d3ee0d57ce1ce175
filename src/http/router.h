// The route table: method and path pattern to handler. Patterns are literal but for a last segment
// "{name}", which takes the rest of the path (model ids hold slashes) and gives it to the handler
// decoded. HEAD is answered by the GET handler; the connection leaves out the body.
// Built at start-up, immutable afterwards.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "http/exchange.h"

namespace mach::http {

using RouteHandler =
    std::function<void(const std::shared_ptr<Exchange>& exchange, const std::string& argument)>;

struct Route {
  std::string method;
  std::string pattern;
  RouteHandler handler;
};

class Router {
 public:
  explicit Router(std::vector<Route> routes) : routes_(std::move(routes)) {}

  struct Match {
    const Route* route = nullptr;  // null: no such path, or not with this method
    std::string argument;
    std::string label;    // the pattern of the path even if the method is wrong; "" if unknown
    std::string allowed;  // methods of the path, for the Allow header
  };
  Match Find(std::string_view method, std::string_view path) const;

 private:
  std::vector<Route> routes_;
};

}  // namespace mach::http
