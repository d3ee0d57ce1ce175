// The page at `/`: its files, who may have them, and what browsers are told about them.
#include "server/page.h"

#include <regex>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/server/app_fixture.h"
#include "tests/server/reports_page.h"

namespace mach::server {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string EtagOf(const std::string& head) {
  return *mach::testing::Matches(head, "ETag: (\"[0-9a-f]+\")").begin();
}

TEST_F(ServerAppTest, ThePageNeedsNoKeyAndNoModel) {
  app_options_.gate.api_key = "secret";
  Start(/*ready=*/false);
  const Reply page = Call("GET", "/");
  EXPECT_EQ(page.status, 200);
  EXPECT_THAT(page.head, HasSubstr("\r\nContent-Type: text/html; charset=utf-8\r\n"));
  EXPECT_THAT(page.head, HasSubstr("\r\nCache-Control: no-cache\r\n"));
  EXPECT_THAT(page.head, HasSubstr("\r\nX-Content-Type-Options: nosniff\r\n"));
  EXPECT_THAT(page.head, HasSubstr("\r\nReferrer-Policy: no-referrer\r\n"));
  EXPECT_THAT(page.head,
              HasSubstr("\r\nContent-Security-Policy: default-src 'none'; script-src 'self'; "
                        "style-src 'self'; connect-src 'self'; img-src 'self' data:; "
                        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n"));
  EXPECT_EQ(page.body, FindPageFile(kPageIndex)->text);
  EXPECT_EQ(Call("GET", "/v1/models").status, 401);
}

TEST_F(ServerAppTest, ThePageIsWholeAndNothingIsFromOutside) {
  Start();
  std::string all;
  for (const PageFile& file : PageFiles()) {
    all += file.text;
    // The policy would refuse it.
    EXPECT_EQ(mach::testing::Matches(std::string(file.text), "(<script>|<style| style=| onclick=)"),
              mach::testing::Names())
        << file.name;
  }
  const auto used = mach::testing::Matches(all, R"((?:"page/|from '\./)([a-z]+\.[a-z]+)['"])");
  EXPECT_GT(used.size(), 10U);
  for (const std::string& name : used) {
    EXPECT_EQ(Call("GET", "/page/" + name).status, 200) << name;
  }
  // Beside the page's links the names of XML and examples.
  EXPECT_EQ(mach::testing::Matches(all, R"(https?://([a-z0-9.]+))"),
            mach::testing::Names({"www.w3.org"}));
}

TEST_F(ServerAppTest, PageFilesHaveTheirTypes) {
  Start();
  for (const auto& [name, type] : {std::pair("main.js", "text/javascript; charset=utf-8"),
                                   std::pair("style.css", "text/css; charset=utf-8"),
                                   std::pair("icon.svg", "image/svg+xml")}) {
    const Reply reply = Call("GET", std::string("/page/") + name);
    EXPECT_EQ(reply.status, 200) << name;
    EXPECT_THAT(reply.head, HasSubstr(std::string("Content-Type: ") + type + "\r\n"));
    EXPECT_THAT(reply.head, HasSubstr("Content-Security-Policy: default-src 'none'"));
  }
  for (const char* path : {"/page/", "/page/nope.js", "/page/index.html", "/page/..%2fapp.cc",
                           "/page/main.js/", "/index.html", "/favicon.ico"}) {
    EXPECT_EQ(Call("GET", path).status, 404) << path;
  }
  const Reply post = Call("POST", "/", "{}");
  EXPECT_EQ(post.status, 405);
  EXPECT_THAT(post.head, HasSubstr("Allow: GET, HEAD"));
}

TEST_F(ServerAppTest, APageThatHasNotChangedIsNotSentAgain) {
  Start();
  const std::string etag = EtagOf(Call("GET", "/page/chat.js").head);
  EXPECT_NE(etag, EtagOf(Call("GET", "/page/main.js").head));
  for (const std::string& known : {etag, "\"other\", W/" + etag, std::string("*")}) {
    RawClient client(server_->port());
    client.Send(Request("GET", "/page/chat.js", "", "If-None-Match: " + known + "\r\n"));
    const std::string reply = client.ReadUntil("\r\n\r\n");
    EXPECT_THAT(reply, HasSubstr("HTTP/1.1 304 Not Modified\r\n")) << known;
    EXPECT_THAT(reply, HasSubstr("ETag: " + etag));
    EXPECT_THAT(reply, Not(HasSubstr("Content-Length")));
    // The connection goes on: nothing came after the head.
    client.Send(Request("GET", "/health", ""));
    EXPECT_THAT(client.ReadResponse(20000), HasSubstr("HTTP/1.1 200 OK"));
  }
  EXPECT_EQ(Call("GET", "/page/chat.js", "", "If-None-Match: \"other\"\r\n").status, 200);
}

TEST_F(ServerAppTest, HeadOfThePageHasNoBody) {
  Start();
  RawClient client(server_->port());
  client.Send(Request("HEAD", "/", ""));
  const std::string head = client.ReadUntil("\r\n\r\n");
  EXPECT_THAT(head, HasSubstr("HTTP/1.1 200 OK"));
  EXPECT_THAT(
      head, HasSubstr("Content-Length: " + std::to_string(FindPageFile(kPageIndex)->text.size())));
  client.Send(Request("GET", "/health", ""));
  EXPECT_EQ(client.ReadResponse(20000).substr(0, 15), "HTTP/1.1 200 OK");
}

TEST_F(ServerAppTest, NoPageWhereNoneIsWanted) {
  app_options_.page = false;
  Start();
  for (const char* path : {"/", "/page/main.js"}) {
    const Reply reply = Call("GET", path);
    EXPECT_EQ(reply.status, 404) << path;
    EXPECT_THAT(reply.json()["error"]["message"].get<std::string>(), HasSubstr("Unknown route"));
  }
}

TEST(Gate, ItsOwnPageMayCallUnlessItsNameMayBeAnothers) {
  const auto allowed = [](const GateRules& rules, const std::string& host,
                          const std::string& origin) {
    http::Request request;
    request.method = "POST";
    request.path = "/v1/chat/completions";
    request.headers = {{"host", host}, {"origin", origin}};
    return !Gate(rules).CheckSender(request).has_value();
  };
  const GateRules open = {.host = "0.0.0.0"};
  EXPECT_TRUE(allowed(open, "192.168.1.5:8080", "http://192.168.1.5:8080"));
  EXPECT_TRUE(allowed(open, "[fe80::1]:8080", "http://[fe80::1]:8080"));
  EXPECT_FALSE(allowed(open, "192.168.1.5:8080", "http://192.168.1.6:8080"));
  EXPECT_FALSE(allowed(open, "192.168.1.5:8080", "http://192.168.1.5"));
  // A name that a stranger may have pointed here.
  EXPECT_FALSE(allowed(open, "evil.example:8080", "http://evil.example:8080"));
  EXPECT_TRUE(allowed({.host = "box.example"}, "box.example:8080", "http://box.example:8080"));
  EXPECT_FALSE(allowed({.host = "box.example"}, "evil.example:8080", "http://evil.example:8080"));
  // Where a key is asked for, that page has none.
  EXPECT_TRUE(allowed({.api_key = "k", .host = "0.0.0.0"}, "any.example", "http://any.example"));
  EXPECT_FALSE(allowed({.host = "127.0.0.1"}, "192.168.1.5", "http://192.168.1.5"));
}

}  // namespace
}  // namespace mach::server
