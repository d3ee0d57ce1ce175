#include "server/gate.h"

#include <algorithm>

namespace mach::server {
namespace {

// Takes the same time wherever the first difference is.
bool EqualsConstantTime(std::string_view a, std::string_view b) {
  size_t difference = a.size() ^ b.size();
  for (size_t i = 0; i < a.size(); ++i) {
    difference |=
        static_cast<uint8_t>(a[i]) ^ static_cast<uint8_t>(b[i % std::max<size_t>(b.size(), 1)]);
  }
  return difference == 0;
}

// HOST of HOST, HOST:PORT and [HOST]:PORT, the last with its brackets.
std::string_view WithoutPort(std::string_view authority) {
  const size_t colon = authority.rfind(':');
  const bool port =
      colon != std::string_view::npos && authority.find(']', colon) == std::string_view::npos;
  return port ? authority.substr(0, colon) : authority;
}

// Empty if it has none, as "null" has.
std::string_view HostOfOrigin(std::string_view origin) {
  const size_t scheme = origin.find("://");
  return scheme == std::string_view::npos ? "" : WithoutPort(origin.substr(scheme + 3));
}

bool IsLoopbackV4(std::string_view host) {
  return host.substr(0, 4) == "127." &&
         host.find_first_not_of("0123456789.") == std::string_view::npos;
}

// Names that no other machine can have.
bool IsThisMachine(std::string_view host) {
  return http::EqualsIgnoreCase(host, "localhost") || IsLoopbackV4(host) || host == "[::1]" ||
         host == "::1";
}

// An address, which no other page can have as its name: `host` as a Host header has it.
bool IsAddress(std::string_view host) {
  return !host.empty() &&
         (host.front() == '[' || host.find_first_not_of("0123456789.") == std::string_view::npos);
}

// Pages of an application or browser extension that is installed here ("app://", "tauri://",
// "vscode-webview://"): no web site has such an origin. "null" may be anyone's.
bool IsLocalApp(std::string_view origin) {
  const size_t scheme = origin.find("://");
  return scheme != std::string_view::npos && scheme > 0 &&
         !http::EqualsIgnoreCase(origin.substr(0, scheme), "http") &&
         !http::EqualsIgnoreCase(origin.substr(0, scheme), "https");
}

}  // namespace

bool Gate::IsApi(std::string_view path) {
  return path.starts_with("/v1/") || path.starts_with("/tokenize") ||
         path.starts_with("/detokenize");
}

bool Gate::KeyMatches(const http::Request& request) const {
  if (rules_.api_key.empty()) {
    return true;
  }
  constexpr std::string_view kBearer = "Bearer ";
  const std::string_view authorization = request.Header("authorization");
  if (authorization.size() > kBearer.size() &&
      http::EqualsIgnoreCase(authorization.substr(0, kBearer.size()), kBearer)) {
    return EqualsConstantTime(authorization.substr(kBearer.size()), rules_.api_key);
  }
  return EqualsConstantTime(request.Header("x-api-key"), rules_.api_key);
}

std::optional<api::ErrorInfo> Gate::CheckSender(const http::Request& head) const {
  const std::string_view host = WithoutPort(head.Header("host"));
  // HTTP/1.0 may have none; no browser speaks it.
  if (IsThisMachine(rules_.host) && !host.empty() && !IsThisMachine(host) && !OriginNames(host)) {
    return api::Forbidden("This server is for this machine only, and the request is for '" +
                          std::string(host.substr(0, 200)) +
                          "'. Start it with another --host, or, behind a proxy of that name, with "
                          "--cors-origin http://NAME.");
  }
  if (IsApi(head.path) && head.method != "OPTIONS" && !head.Header("origin").empty() &&
      AllowedOrigin(head).empty()) {
    return api::Forbidden("Pages of '" + std::string(head.Header("origin").substr(0, 200)) +
                          "' may not call this server. Start it with --cors-origin to let them.");
  }
  return std::nullopt;
}

std::string Gate::AllowedOrigin(const http::Request& request) const {
  const std::string_view origin = request.Header("origin");
  if (origin.empty()) {
    return "";
  }
  const auto& named = rules_.cors_origins;
  const bool allowed = IsThisMachine(HostOfOrigin(origin)) || IsLocalApp(origin) ||
                       FromOwnPage(request) ||
                       std::find(named.begin(), named.end(), "*") != named.end() ||
                       std::find(named.begin(), named.end(), origin) != named.end();
  return allowed ? std::string(origin) : "";
}

bool Gate::FromOwnPage(const http::Request& request) const {
  const std::string_view authority = request.Header("host");
  const std::string_view host = WithoutPort(authority);
  return http::EqualsIgnoreCase(request.Header("origin"), "http://" + std::string(authority)) &&
         (IsAddress(host) || http::EqualsIgnoreCase(host, rules_.host) || !rules_.api_key.empty());
}

bool Gate::OriginNames(std::string_view host) const {
  const auto& named = rules_.cors_origins;
  return std::any_of(named.begin(), named.end(), [host](std::string_view origin) {
    return origin == "*" || http::EqualsIgnoreCase(HostOfOrigin(origin), host);
  });
}

void Gate::AddCors(const http::Request& request, http::Response& response) const {
  std::string origin = AllowedOrigin(request);
  if (origin.empty()) {
    return;
  }
  response.headers.emplace_back("Access-Control-Allow-Origin", std::move(origin));
  response.headers.emplace_back("Access-Control-Expose-Headers", "x-request-id, Retry-After");
  response.headers.emplace_back("Vary", "Origin");
}

}  // namespace mach::server
