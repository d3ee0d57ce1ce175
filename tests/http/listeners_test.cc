#include "http/listeners.h"

#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "http/server.h"

namespace mach::http {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

bool Connects(asio::io_context& io, const asio::ip::address& address, int port) {
  error_code ec;
  tcp::socket(io).connect({address, static_cast<uint16_t>(port)}, ec);
  return !ec;
}

std::vector<asio::ip::address> Addresses(const std::vector<std::string>& texts) {
  std::vector<asio::ip::address> addresses;
  for (const std::string& text : texts) {
    addresses.push_back(asio::ip::make_address(text));
  }
  return addresses;
}

TEST(Listeners, EveryAddressListensOnTheSamePort) {
  asio::io_context io;
  const auto addresses = Addresses({"127.0.0.1", "127.0.0.2", "127.0.0.3"});
  const Acceptors acceptors = ListenOnAll(io, "name", addresses, 0);
  ASSERT_EQ(acceptors.size(), addresses.size());
  std::set<int> ports;
  for (const tcp::acceptor& acceptor : acceptors) {
    ports.insert(acceptor.local_endpoint().port());
  }
  ASSERT_EQ(ports.size(), 1U);
  EXPECT_NE(*ports.begin(), 0);
  for (const asio::ip::address& address : addresses) {
    EXPECT_TRUE(Connects(io, address, *ports.begin())) << address;
  }
}

TEST(Listeners, BothFamiliesHoldOnePort) {
  asio::io_context io;
  error_code ec;
  tcp::acceptor probe(io);
  probe.open(tcp::v6(), ec);
  if (!ec) {
    probe.bind({asio::ip::make_address("::1"), 0}, ec);
  }
  if (ec) {
    GTEST_SKIP() << "no IPv6 here: " << ec.message();
  }
  for (const auto& [first, second] :
       {std::pair("127.0.0.1", "::1"), std::pair("::1", "127.0.0.1"), std::pair("0.0.0.0", "::")}) {
    const Acceptors acceptors = ListenOnAll(io, "name", Addresses({first, second}), 0);
    ASSERT_EQ(acceptors.size(), 2U) << first;
    const int port = acceptors[0].local_endpoint().port();
    EXPECT_EQ(acceptors[1].local_endpoint().port(), port);
    EXPECT_TRUE(Connects(io, asio::ip::make_address("127.0.0.1"), port));
    EXPECT_TRUE(Connects(io, asio::ip::make_address("::1"), port));
  }
}

TEST(Listeners, AddressesOfOtherMachinesAreLeftOut) {
  asio::io_context io;
  // For documentation only (RFC 5737): nobody's.
  const Acceptors acceptors = ListenOnAll(io, "name", Addresses({"192.0.2.1", "127.0.0.1"}), 0);
  ASSERT_EQ(acceptors.size(), 1U);
  EXPECT_EQ(acceptors[0].local_endpoint().address().to_string(), "127.0.0.1");
  try {
    ListenOnAll(io, "name", Addresses({"192.0.2.1"}), 0);
    FAIL() << "that is not this machine";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kIo);
    EXPECT_NE(e.Describe().find("--host must be"), std::string::npos) << e.Describe();
  }
}

TEST(Listeners, APortThatOneAddressCannotHaveIsAnError) {
  asio::io_context io;
  const Acceptors other = ListenOnAll(io, "name", Addresses({"127.0.0.2"}), 0);
  const int port = other[0].local_endpoint().port();
  try {
    ListenOnAll(io, "name", Addresses({"127.0.0.1", "127.0.0.2"}), port);
    FAIL() << "half of a name is not the name";
  } catch (const Error& e) {
    EXPECT_NE(e.Describe().find("127.0.0.2:" + std::to_string(port)), std::string::npos);
    EXPECT_NE(e.Describe().find("--port"), std::string::npos);
  }
}

TEST(Server, ListensOnAllThatItsHostNameStandsFor) {
  Server server({.host = "localhost", .port = 0}, [](const std::shared_ptr<Exchange>&) {});
  asio::io_context io;
  std::string all;
  for (const asio::ip::address& address : ResolveHost(io, "localhost")) {
    EXPECT_TRUE(Connects(io, address, server.port())) << address;
    all += (all.empty() ? "" : " ") + address.to_string();
  }
  EXPECT_EQ(server.addresses(), all);
}

}  // namespace
}  // namespace mach::http
