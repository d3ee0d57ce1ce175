// The listening sockets of a server: one for each address that its host name stands for, all on
// one port. Not accepting (server.cc). Private to http; the owner's thread.
#pragma once

#include <string>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>

namespace mach::http {

using Acceptors = std::vector<boost::asio::ip::tcp::acceptor>;

// What `host` resolves to, each address once. Throws kIo naming it if that is nothing.
std::vector<boost::asio::ip::address> ResolveHost(boost::asio::io_context& io,
                                                  const std::string& host);

// Listens on `port` of every address that this machine has; the others are left out with a line in
// the log. Port 0 picks one that is free on all. `host` is for messages. Throws kIo if no address
// is this machine's or one of them refuses.
Acceptors ListenOnAll(boost::asio::io_context& io, const std::string& host,
                      const std::vector<boost::asio::ip::address>& addresses, int port);

}  // namespace mach::http
