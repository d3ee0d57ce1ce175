#include "http/router.h"

#include <optional>

namespace mach::http {
namespace {

// The decoded argument (empty for literal patterns) if `path` matches.
std::optional<std::string> MatchPattern(std::string_view pattern, std::string_view path) {
  const size_t brace = pattern.find('{');
  if (brace == std::string_view::npos) {
    if (path.size() > 1 && path.back() == '/') {
      path.remove_suffix(1);
    }
    return pattern == path ? std::optional<std::string>("") : std::nullopt;
  }
  if (path.size() <= brace || path.substr(0, brace) != pattern.substr(0, brace)) {
    return std::nullopt;
  }
  return PercentDecode(path.substr(brace));
}

}  // namespace

Router::Match Router::Find(std::string_view method, std::string_view path) const {
  Match match;
  const std::string_view wanted = method == "HEAD" ? "GET" : method;
  for (const Route& route : routes_) {
    auto argument = MatchPattern(route.pattern, path);
    if (!argument) {
      continue;
    }
    match.label = route.pattern;
    match.allowed += (match.allowed.empty() ? "" : ", ") + route.method;
    if (route.method == "GET") {
      match.allowed += ", HEAD";
    }
    if (route.method == wanted) {
      match.route = &route;
      match.argument = std::move(*argument);
      return match;
    }
  }
  return match;
}

}  // namespace mach::http
