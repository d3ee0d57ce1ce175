// The whole HTTP side on the scripted engine, through real sockets: what its tests share.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "http/server.h"
#include "server/app.h"
#include "tests/http/raw_client.h"
#include "tests/server/fake_engine.h"

namespace mach::server {

using Json = nlohmann::ordered_json;
using mach::testing::FakeEngine;
using mach::testing::FakeOptions;
using mach::testing::RawClient;

inline constexpr char kChat[] = "/v1/chat/completions";

// As patient as a loaded machine needs; what is waited for is there at once on an idle one.
inline constexpr double kPatienceS = 20;

inline bool WaitFor(const std::function<bool()>& check, double seconds = kPatienceS) {
  const double deadline_s = NowSeconds() + seconds;
  while (NowSeconds() < deadline_s) {
    if (check()) {
      return true;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return false;
}

inline std::string ChatBody(const std::string& text, const char* more = "{}") {
  Json body = {{"messages", Json::array({Json{{"role", "user"}, {"content", text}}})},
               {"temperature", 0}};
  body.update(Json::parse(more));
  return body.dump();
}

// Takes the chunks of a chunked body apart.
inline std::string Unchunk(const std::string& body) {
  std::string out;
  size_t at = 0;
  while (at < body.size()) {
    const size_t line = body.find("\r\n", at);
    const size_t size = std::stoul(body.substr(at, line - at), nullptr, 16);
    out += body.substr(line + 2, size);
    at = line + 2 + size + 2;
  }
  return out;
}

class ServerAppTest : public ::testing::Test {
 protected:
  void Start(bool ready = true) {
    host_ = std::make_unique<ModelHost>("dir-name");
    app_ = std::make_unique<App>(app_options_, *host_);
    http_.port = 0;
    http_.make_error = [this](const http::Request& head, int status, std::string_view text) {
      return app_->HttpError(head, status, text);
    };
    http_.check_head = [this](const http::Request& head) { return app_->RefuseHead(head); };
    server_ = std::make_unique<http::Server>(
        http_, [this](const std::shared_ptr<http::Exchange>& x) { app_->Handle(x); });
    server_->Start();
    if (ready) {
      Ready();
    }
  }

  void Ready() { host_->SetReady(mach::testing::MakeFakeModel(fake_)); }

  void TearDown() override {
    // The order of Serve: nothing may post to a server that is gone.
    if (host_->ready() != nullptr) {
      host_->ready()->engine->Shutdown(0);
    }
    server_->Stop();
    app_->Stop();
    server_.reset();
  }

  FakeEngine& engine() { return dynamic_cast<FakeEngine&>(*host_->ready()->engine); }

  static std::string Request(const std::string& method, const std::string& path,
                             const std::string& body, const std::string& headers = "") {
    return method + " " + path + " HTTP/1.1\r\nHost: h\r\n" + headers +
           "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
  }

  struct Reply {
    int status = 0;
    std::string head;
    std::string body;
    Json json() const { return Json::parse(body); }
  };

  Reply Call(const std::string& method, const std::string& path, const std::string& body = "",
             const std::string& headers = "") {
    RawClient client(server_->port());
    client.Send(Request(method, path, body, headers));
    const std::string text = client.ReadResponse(20000);
    const size_t end = text.find("\r\n\r\n");
    if (end == std::string::npos) {
      ADD_FAILURE() << "no response to " << method << " " << path;
      return {};
    }
    return {std::stoi(text.substr(9, 3)), text.substr(0, end), text.substr(end + 4)};
  }

  // The data of each event of a streamed response, [DONE] included.
  std::vector<std::string> Stream(const std::string& path, const std::string& body) {
    RawClient client(server_->port());
    client.Send(Request("POST", path, body));
    const std::string head = client.ReadUntil("\r\n\r\n");
    EXPECT_NE(head.find("Content-Type: text/event-stream; charset=utf-8\r\n"), std::string::npos)
        << head;
    EXPECT_NE(head.find("Cache-Control: no-cache\r\n"), std::string::npos);
    EXPECT_NE(head.find("x-request-id: "), std::string::npos);
    const std::string text = Unchunk(client.ReadUntil("\r\n0\r\n\r\n", 20000));
    std::vector<std::string> events;
    size_t at = 0;
    while (at < text.size()) {
      const size_t end = text.find("\n\n", at);
      const std::string event = text.substr(at, end - at);
      if (event[0] != ':') {
        EXPECT_EQ(event.substr(0, 6), "data: ");
        EXPECT_EQ(event.find('\n'), std::string::npos);
        events.push_back(event.substr(6));
      }
      at = end + 2;
    }
    return events;
  }

  // One request runs, `waiting` wait behind it; all hang up when the result goes.
  std::vector<std::unique_ptr<RawClient>> Occupy(int waiting) {
    std::vector<std::unique_ptr<RawClient>> clients;
    for (int i = 0; i <= waiting; ++i) {
      clients.push_back(std::make_unique<RawClient>(server_->port()));
      clients.back()->Send(Request("POST", kChat, ChatBody("[[prefill]]")));
      EXPECT_TRUE(WaitFor([&] {
        const auto stats = engine().Snapshot();
        return stats.requests_active == 1 && stats.requests_queued == i;
      }));
    }
    return clients;
  }

  FakeOptions fake_;
  AppOptions app_options_;
  http::ServerOptions http_;
  std::unique_ptr<ModelHost> host_;
  std::unique_ptr<App> app_;
  std::unique_ptr<http::Server> server_;
};

}  // namespace mach::server
