#include "http/listeners.h"

#include <algorithm>
#include <cstdint>
#include <optional>

#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/socket_base.hpp>

#include "base/error.h"
#include "base/log.h"

namespace mach::http {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

// A port that is free on the first address may be taken on another; the next one is most likely
// not.
constexpr int kPortAttempts = 32;

error_code Listen(tcp::acceptor& acceptor, const tcp::endpoint& endpoint, bool alone) {
  error_code ec;
  acceptor.open(endpoint.protocol(), ec);
  if (!ec) {
    acceptor.set_option(asio::socket_base::reuse_address(true), ec);
  }
  if (!ec && endpoint.address().is_v6() && !alone) {
    // Else :: would take the port of 0.0.0.0 too.
    acceptor.set_option(asio::ip::v6_only(true), ec);
  }
  if (!ec) {
    acceptor.bind(endpoint, ec);
  }
  if (!ec) {
    acceptor.listen(asio::socket_base::max_listen_connections, ec);
  }
  return ec;
}

bool IsNotOurs(const error_code& ec) {
  return ec == asio::error::address_family_not_supported ||
         ec == boost::system::errc::address_not_available;
}

[[noreturn]] void Refuse(const std::string& where, const error_code& ec) {
  throw Error(ErrorCode::kIo, "cannot listen on " + where + ": " + ec.message(),
              IsNotOurs(ec) ? "--host must be an address of this machine"
                            : "choose another --port, or stop the program that uses it");
}

std::string Where(const asio::ip::address& address, int port) {
  const std::string text = address.to_string();
  return (address.is_v6() ? "[" + text + "]" : text) + ":" + std::to_string(port);
}

// Nothing if the port that the first address picked is taken on another and `may_be_taken`.
std::optional<Acceptors> Try(asio::io_context& io, const std::string& host,
                             const std::vector<asio::ip::address>& addresses, int port,
                             bool may_be_taken) {
  Acceptors acceptors;
  std::vector<std::string> left_out;
  error_code not_ours;
  for (const asio::ip::address& address : addresses) {
    tcp::acceptor acceptor(io);
    const error_code ec =
        Listen(acceptor, {address, static_cast<uint16_t>(port)}, addresses.size() == 1);
    if (!ec) {
      port = acceptor.local_endpoint().port();
      acceptors.push_back(std::move(acceptor));
    } else if (IsNotOurs(ec)) {
      not_ours = ec;
      left_out.push_back(address.to_string());
    } else if (ec == asio::error::address_in_use && may_be_taken) {
      return std::nullopt;
    } else {
      Refuse(Where(address, port), ec);
    }
  }
  if (acceptors.empty()) {
    Refuse(host + ":" + std::to_string(port), not_ours);
  }
  for (const std::string& address : left_out) {
    LogWarning("not listening on an address that this machine does not have",
               {{"host", host}, {"address", address}});
  }
  return acceptors;
}

}  // namespace

std::vector<asio::ip::address> ResolveHost(asio::io_context& io, const std::string& host) {
  error_code ec;
  tcp::resolver resolver(io);
  const auto found = resolver.resolve(host, "0", tcp::resolver::passive, ec);
  std::vector<asio::ip::address> addresses;
  if (!ec) {
    for (const auto& entry : found) {
      const asio::ip::address address = entry.endpoint().address();
      if (std::find(addresses.begin(), addresses.end(), address) == addresses.end()) {
        addresses.push_back(address);
      }
    }
  }
  if (addresses.empty()) {
    throw Error(ErrorCode::kIo, "cannot listen on " + host + ": " + ec.message(),
                "--host must be an address of this machine");
  }
  return addresses;
}

Acceptors ListenOnAll(asio::io_context& io, const std::string& host,
                      const std::vector<asio::ip::address>& addresses, int port) {
  for (int attempt = 1; attempt < kPortAttempts && port == 0; ++attempt) {
    if (auto acceptors = Try(io, host, addresses, port, /*may_be_taken=*/true)) {
      return std::move(*acceptors);
    }
  }
  return *Try(io, host, addresses, port, /*may_be_taken=*/false);
}

}  // namespace mach::http
