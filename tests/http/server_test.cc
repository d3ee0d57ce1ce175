#include "http/server.h"

#include <atomic>
#include <chrono>
#include <ctime>
#include <future>
#include <random>
#include <thread>

#include <gtest/gtest.h>

#include "base/clock.h"
#include "base/error.h"
#include "tests/http/raw_client.h"

namespace mach::http {
namespace {

using mach::testing::RawClient;

// As patient as a loaded machine needs.
bool WaitFor(const std::function<bool()>& check, double seconds = 20) {
  const double deadline_s = NowSeconds() + seconds;
  while (NowSeconds() < deadline_s) {
    if (check()) {
      return true;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return false;
}

// /echo answers with the body; /long with pieces of a long one, held by held_; /hang never answers;
// /stream writes what the test tells it to; /flood writes without end; /held gives the exchange to
// the test.
class ServerTest : public ::testing::Test {
 protected:
  ServerTest() {
    options_.port = 0;
    options_.max_body_bytes = 1 << 20;
    options_.linger_s = 1;
    options_.make_error = [](const Request& /*head*/, int status, std::string_view message) {
      Response response;
      response.status = status;
      response.body = Pieces("{\"error\":\"" + std::string(message) + "\"}");
      return response;
    };
    options_.check_head = [](const Request& head) -> std::optional<Response> {
      if (head.path != "/refused") {
        return std::nullopt;
      }
      Response response;
      response.status = 401;
      return response;
    };
  }

  void Start() {
    server_ = std::make_unique<Server>(
        options_, [this](const std::shared_ptr<Exchange>& exchange) { Handle(exchange); });
    server_->Start();
  }

  void Handle(const std::shared_ptr<Exchange>& exchange) {
    ++handled_;
    const std::string& path = exchange->request().path;
    exchange->OnClose([this] { ++closed_; });
    if (path == "/echo") {
      Response response;
      response.body = Pieces(exchange->request().body);
      exchange->Respond(std::move(response));
    } else if (path == "/long") {
      Response response;
      for (int i = 0; i < 200; ++i) {
        response.body.Append(std::string(100'000, static_cast<char>('a' + i % 26)));
      }
      response.holds = std::shared_ptr<void>(nullptr, [this](void*) { ++released_; });
      exchange->Respond(std::move(response));
    } else if (path == "/held") {
      held_.set_value(exchange);
    } else if (path == "/stream" || path == "/flood") {
      Response head;
      head.content_type = "text/event-stream";
      exchange->StartStream(std::move(head), [] { return std::string(": ping\n\n"); });
      exchange->Write("data: 1\n\n");
      if (path == "/flood") {
        Flood(exchange);
      } else if (exchange->request().query != "open") {
        exchange->Finish();
      }
    }
  }

  void Flood(const std::shared_ptr<Exchange>& exchange) {
    if (exchange->closed()) {
      return;
    }
    exchange->Write(std::string(100000, 'x'));
    most_backlog_ = std::max<size_t>(most_backlog_, exchange->backlog_bytes());
    exchange->Post([this, exchange] { Flood(exchange); });
  }

  RawClient Connect() { return RawClient(server_->port()); }

  ServerOptions options_;
  std::atomic<int> handled_{0};
  std::atomic<int> closed_{0};
  std::atomic<int> released_{0};  // of what responses held
  std::atomic<size_t> most_backlog_{0};
  std::promise<std::shared_ptr<Exchange>> held_;
  std::unique_ptr<Server> server_;
};

std::string Get(const std::string& path) {
  return "GET " + path + " HTTP/1.1\r\nHost: h\r\n\r\n";
}

std::string Post(const std::string& path, const std::string& body) {
  return "POST " + path + " HTTP/1.1\r\nHost: h\r\nContent-Length: " + std::to_string(body.size()) +
         "\r\n\r\n" + body;
}

TEST_F(ServerTest, LongBodiesLeaveInPiecesAndHoldWhatTheyHoldUntilThen) {
  Start();
  RawClient client(server_->port(), 4096);
  client.Send("GET /long HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
  const std::string head = client.ReadUntil("\r\n\r\n");
  EXPECT_NE(head.find("Content-Length: 20000000\r\n"), std::string::npos) << head;
  EXPECT_EQ(released_, 0) << "most of it has not left";
  const std::string body = client.ReadAll();
  ASSERT_EQ(body.size(), 20'000'000U);
  for (size_t i = 0; i + 1 < 200; ++i) {
    ASSERT_EQ(body.find_first_not_of(static_cast<char>('a' + i % 26), i * 100'000),
              (i + 1) * 100'000);
  }
  EXPECT_TRUE(WaitFor([this] { return released_ == 1; }));
  RawClient quitter(server_->port(), 4096);
  quitter.Send(Get("/long"));
  quitter.ReadUntil("\r\n\r\n");
  quitter.Close();
  EXPECT_TRUE(WaitFor([this] { return released_ == 2; }));
}

TEST_F(ServerTest, BodiesAreBookedUntilTheyAreTaken) {
  std::atomic<uint64_t> booked{0};
  options_.book_bodies = [&booked](uint64_t bytes) {
    booked = bytes;
    return bytes <= 500'000;
  };
  Start();
  RawClient one(server_->port());
  one.Send(Post("/held", std::string(400'000, 'x')));
  const auto exchange = held_.get_future().get();
  EXPECT_EQ(booked, 400'000U);
  RawClient two(server_->port());
  two.Send(Post("/echo", std::string(200'000, 'x')));
  EXPECT_EQ(two.ReadResponse().substr(9, 3), "503");
  EXPECT_TRUE(WaitFor([&] { return booked == 400'000; }));
  exchange->Post([exchange] { EXPECT_EQ(exchange->TakeBody().size(), 400'000U); });
  EXPECT_TRUE(WaitFor([&] { return booked == 0; }));
  RawClient three(server_->port());
  three.Send(Post("/echo", std::string(200'000, 'x')));
  EXPECT_EQ(three.ReadResponse().substr(9, 3), "200");
  EXPECT_TRUE(WaitFor([&] { return booked == 0; }));
}

TEST_F(ServerTest, KeepsConnectionsAlive) {
  Start();
  RawClient client(server_->port());
  for (int i = 0; i < 3; ++i) {
    client.Send(Post("/echo", "body" + std::to_string(i)));
    const std::string reply = client.ReadResponse();
    EXPECT_EQ(reply.substr(0, 17), "HTTP/1.1 200 OK\r\n");
    EXPECT_NE(reply.find("x-request-id: "), std::string::npos);
    EXPECT_EQ(reply.substr(reply.size() - 5), "body" + std::to_string(i));
  }
}

TEST_F(ServerTest, AnswersPipelinedRequestsInOrder) {
  Start();
  RawClient client(server_->port());
  std::string all;
  for (int i = 0; i < 50; ++i) {
    all += Post("/echo", "<" + std::to_string(i) + ">");
  }
  client.Send(all);
  for (int i = 0; i < 50; ++i) {
    EXPECT_NE(client.ReadResponse().find("<" + std::to_string(i) + ">"), std::string::npos);
  }
  // A client that says all it has to say at once and closes its side is answered too.
  client.Send(Get("/echo") + Get("/echo"));
  client.ShutdownWrite();
  EXPECT_NE(client.ReadResponse(), "");
  EXPECT_NE(client.ReadResponse(), "");
}

TEST_F(ServerTest, StreamsInChunks) {
  Start();
  RawClient client(server_->port());
  client.Send(Get("/stream"));
  const std::string reply = client.ReadUntil("0\r\n\r\n");
  EXPECT_NE(reply.find("Transfer-Encoding: chunked\r\n"), std::string::npos);
  EXPECT_NE(reply.find("\r\n\r\n9\r\ndata: 1\n\n\r\n0\r\n\r\n"), std::string::npos);
  client.Send(Get("/echo"));
  EXPECT_NE(client.ReadResponse(), "");
}

TEST_F(ServerTest, Http10StreamsEndWithTheConnection) {
  Start();
  RawClient client(server_->port());
  client.Send("GET /stream HTTP/1.0\r\n\r\n");
  bool closed = false;
  const std::string reply = client.ReadAll(&closed);
  EXPECT_EQ(reply.find("chunked"), std::string::npos);
  EXPECT_EQ(reply.substr(reply.find("\r\n\r\n") + 4), "data: 1\n\n");
  EXPECT_TRUE(closed);
}

TEST_F(ServerTest, HeadHasNoBody) {
  Start();
  RawClient client(server_->port());
  client.Send("HEAD /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc" +
              Post("/echo", "next"));
  EXPECT_NE(client.ReadUntil("\r\n\r\n").find("Content-Length: 3"), std::string::npos);
  EXPECT_EQ(client.ReadUntil("HTTP/1.1 200 OK"), "HTTP/1.1 200 OK");
}

TEST_F(ServerTest, PingsSilentStreams) {
  options_.ping_interval_s = 0.2;
  Start();
  RawClient client(server_->port());
  client.Send(Get("/stream?open"));
  EXPECT_NE(client.ReadUntil(": ping\n\n"), "");
  EXPECT_NE(client.ReadUntil(": ping\n\n"), "");
}

TEST_F(ServerTest, NoticesClientsThatGoAway) {
  options_.ping_interval_s = 1000;  // which would notice too, later
  Start();
  {
    RawClient hanging(server_->port());
    RawClient streaming(server_->port());
    hanging.Send(Get("/hang"));
    streaming.Send(Get("/stream?open"));
    ASSERT_TRUE(WaitFor([this] { return handled_ == 2; }));
    EXPECT_EQ(closed_, 0);
  }
  EXPECT_TRUE(WaitFor([this] { return closed_ == 2; }));
  EXPECT_TRUE(WaitFor([this] { return server_->connections() == 0; }));
}

TEST_F(ServerTest, RefusesLargeBodiesWithoutReadingThem) {
  Start();
  RawClient announced(server_->port());
  announced.Send("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 100000000\r\n\r\n");
  EXPECT_NE(announced.ReadResponse().find("413"), std::string::npos);

  // A client that sends on regardless still gets to read the answer.
  RawClient stubborn(server_->port());
  stubborn.Send("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 30000000\r\n\r\n");
  EXPECT_TRUE(stubborn.Send(std::string(30000000, 'x')));
  EXPECT_NE(stubborn.ReadResponse().find("413"), std::string::npos);

  RawClient chunked(server_->port());
  chunked.Send("POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
  const std::string chunk = "10000\r\n" + std::string(65536, 'x') + "\r\n";
  for (int i = 0; i < 17; ++i) {
    chunked.Send(chunk);
  }
  EXPECT_NE(chunked.ReadResponse().find("413"), std::string::npos);
  EXPECT_EQ(handled_, 0);
}

TEST_F(ServerTest, ContinuesOrRefusesBeforeTheBody) {
  Start();
  RawClient client(server_->port());
  client.Send(
      "POST /echo HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
  EXPECT_EQ(client.ReadUntil("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  client.Send("hello");
  EXPECT_NE(client.ReadResponse().find("hello"), std::string::npos);
  client.Send(
      "POST /refused HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
  EXPECT_NE(client.ReadResponse().find("401"), std::string::npos);
}

TEST_F(ServerTest, DoesNotContinueForHttp10) {
  Start();
  RawClient client(server_->port());
  client.Send("POST /echo HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
  EXPECT_EQ(client.ReadUntil("\r\n\r\n", 200), "");
  client.Send("hello");
  EXPECT_EQ(client.ReadResponse().substr(0, 15), "HTTP/1.1 200 OK");
}

TEST_F(ServerTest, ABodyOfUnknownLengthIsNotRunAsARequest) {
  Start();
  RawClient client(server_->port());
  client.Send("POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n" +
              Post("/echo", "smuggled"));
  bool closed = false;
  const std::string all = client.ReadAll(&closed);
  EXPECT_EQ(all.substr(0, 12), "HTTP/1.1 400");
  EXPECT_NE(all.find("Connection: close\r\n"), std::string::npos);
  EXPECT_EQ(all.find("HTTP/1.1 200"), std::string::npos) << all;
  EXPECT_TRUE(closed);
  EXPECT_EQ(handled_, 0);
}

TEST_F(ServerTest, SaysWhatTimeItIs) {
  Start();
  RawClient client(server_->port());
  client.Send(Get("/echo"));
  const std::string reply = client.ReadResponse();
  const size_t at = reply.find("Date: ");
  ASSERT_NE(at, std::string::npos);
  std::tm date{};
  EXPECT_NE(strptime(reply.c_str() + at, "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &date), nullptr);
  EXPECT_NEAR(static_cast<double>(timegm(&date)), static_cast<double>(std::time(nullptr)), 60);
}

TEST_F(ServerTest, AnswersGarbageWith400) {
  Start();
  for (const std::string text : {"\x16\x03\x01\x02\x01\x01\r\n\r\n", "GET\r\n\r\n",
                                 "GET / HTTP/9.9\r\n\r\n", "\xFF\xFE\xFD\r\n\r\n"}) {
    RawClient client(server_->port());
    client.Send(text);
    EXPECT_NE(client.ReadResponse().find("400 Bad Request"), std::string::npos) << text;
  }
  RawClient client(server_->port());
  client.Send("GET / HTTP/1.1\r\nHost: h\r\nX: " + std::string(100000, 'x'));
  EXPECT_NE(client.ReadResponse().find("431"), std::string::npos);
}

TEST_F(ServerTest, SurvivesRandomBytes) {
  Start();
  const uint32_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  const std::string good = Post("/echo", "hello") + Get("/stream");
  for (int round = 0; round < 200; ++round) {
    std::string bytes = good;
    for (uint32_t flips = random() % 8; flips > 0; --flips) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    bytes.resize(random() % (bytes.size() + 1));
    RawClient client(server_->port());
    client.Send(bytes);
    if (random() % 2 == 0) {
      client.ShutdownWrite();
      client.ReadAll(nullptr, 200);
    }
  }
  RawClient client(server_->port());
  client.Send(Post("/echo", "alive"));
  EXPECT_NE(client.ReadResponse().find("alive"), std::string::npos);
}

TEST_F(ServerTest, ThrowsOutSlowSenders) {
  options_.head_timeout_s = 0.3;
  options_.body_timeout_s = 0.3;
  options_.idle_timeout_s = 0.3;
  options_.linger_s = 60;  // a byte sent to a closed socket would take the answer away
  Start();
  RawClient idle(server_->port());
  RawClient head(server_->port());
  RawClient body(server_->port());
  head.Send("GET / HTTP/1.1\r\nHost: h\r\nX-Slow:");
  body.Send("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 5000\r\n\r\nx");
  // One byte now and then does not buy more time: they are told so while they go on.
  std::string to_head;
  std::string to_body;
  for (int i = 0; i < 400 && (to_head.empty() || to_body.empty()); ++i) {
    head.Send("x");
    body.Send("x");
    to_head += head.ReadUntil("\r\n\r\n", 25);
    to_body += body.ReadUntil("\r\n\r\n", 25);
  }
  EXPECT_NE(to_head.find("408"), std::string::npos);
  EXPECT_NE(to_body.find("408"), std::string::npos);
  bool closed = false;
  EXPECT_EQ(idle.ReadAll(&closed), "");
  EXPECT_TRUE(closed);
}

TEST_F(ServerTest, ThrowsOutClientsThatDoNotRead) {
  options_.max_backlog_bytes = 1 << 20;
  Start();
  RawClient client(server_->port(), 4096);
  client.Send(Get("/flood"));
  EXPECT_TRUE(WaitFor([this] { return closed_ == 1; }));
  EXPECT_LT(most_backlog_, size_t{3} << 20);
}

TEST_F(ServerTest, TimesOutWritesThatNobodyTakes) {
  options_.write_timeout_s = 0.3;
  options_.max_body_bytes = 64 << 20;
  Start();
  RawClient client(server_->port(), 4096);
  ASSERT_TRUE(client.Send(Post("/echo", std::string(32 << 20, 'x'))));
  EXPECT_TRUE(WaitFor([this] { return handled_ == 1 && server_->connections() == 0; }));
}

TEST_F(ServerTest, LimitsConnections) {
  options_.max_connections = 3;
  Start();
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 3; ++i) {
    clients.push_back(std::make_unique<RawClient>(server_->port()));
    clients.back()->Send(Get("/echo"));
    EXPECT_NE(clients.back()->ReadResponse().find("200"), std::string::npos);
  }
  RawClient surplus(server_->port());
  surplus.Send(Get("/echo"));
  EXPECT_NE(surplus.ReadResponse().find("503"), std::string::npos);
  clients.clear();
  ASSERT_TRUE(WaitFor([this] { return server_->connections() <= 1; }));
  RawClient later(server_->port());
  later.Send(Get("/echo"));
  EXPECT_NE(later.ReadResponse().find("200"), std::string::npos);
}

TEST_F(ServerTest, RefusesToReadTooFarAhead) {
  Start();
  RawClient client(server_->port());
  client.Send(Get("/hang"));
  client.Send(std::string(200000, 'x'), 500);
  EXPECT_TRUE(WaitFor([this] { return closed_ == 1; }));
}

TEST_F(ServerTest, DrainsInOrder) {
  Start();
  RawClient idle(server_->port());
  idle.Send(Get("/echo"));
  idle.ReadResponse();
  RawClient busy(server_->port());
  busy.Send(Get("/stream?open"));
  busy.ReadUntil("data: 1");
  server_->Drain();
  bool closed = false;
  EXPECT_EQ(idle.ReadAll(&closed), "");
  EXPECT_TRUE(closed);
  EXPECT_FALSE(server_->WaitUntilIdle(0.1));
  EXPECT_FALSE(RawClient(server_->port()).connected());
  server_->Stop();
  EXPECT_EQ(closed_, 1);
  EXPECT_EQ(server_->connections(), 0);
}

TEST_F(ServerTest, StopWaitsForExchangesAndWhatTheyPost) {
  Start();
  RawClient client(server_->port());
  client.Send(Get("/held"));
  std::atomic<bool> ran = false;
  std::thread owner([this, &ran, exchange = held_.get_future().get()]() mutable {
    EXPECT_TRUE(WaitFor([this] { return closed_ == 1; }));
    std::this_thread::sleep_for(std::chrono::milliseconds(50));  // Stop waits meanwhile
    exchange->Post([&ran] { ran = true; });
    exchange.reset();
  });
  server_->Stop();
  EXPECT_TRUE(ran);
  owner.join();
}

TEST_F(ServerTest, NamesAnAddressThatCannotBeBound) {
  Start();
  ServerOptions second = options_;
  second.port = server_->port();
  try {
    const Server other(second, [](const std::shared_ptr<Exchange>&) {});
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kIo);
    EXPECT_NE(e.Describe().find("127.0.0.1:" + std::to_string(second.port)), std::string::npos);
  }
  second.host = "no.such.host.invalid";
  EXPECT_THROW(Server(second, [](const std::shared_ptr<Exchange>&) {}), Error);
}

}  // namespace
}  // namespace mach::http
