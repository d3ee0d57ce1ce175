#include "http/request_reader.h"

#include <set>

#include <gtest/gtest.h>

namespace mach::http {
namespace {

using Status = RequestReader::Status;

constexpr size_t kMaxHead = 1024;
constexpr uint64_t kMaxBody = 100;

// Feeds `text` in pieces of `step` bytes, keeping what is not consumed, as a session does.
Status FeedAll(RequestReader& reader, const std::string& text, size_t step) {
  std::string buffer;
  Status status = Status::kNeedMore;
  for (size_t at = 0; at < text.size(); at += step) {
    buffer += text.substr(at, step);
    do {
      buffer.erase(0, reader.Feed(buffer, &status));
    } while (status == Status::kHeadDone && !buffer.empty());
    if (status != Status::kNeedMore && status != Status::kHeadDone) {
      break;
    }
  }
  return status;
}

TEST(RequestReader, ReadsTheSameInAnyPieces) {
  const std::string text =
      "POST /p/a?q=1&r HTTP/1.1\r\nHost: h\r\nX-Request-Id: abc-1\r\nTransfer-Encoding: "
      "chunked\r\n\r\n5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\nTrailer: x\r\n\r\n";
  for (size_t step = 1; step <= text.size(); ++step) {
    RequestReader reader(kMaxHead, kMaxBody);
    ASSERT_EQ(FeedAll(reader, text, step), Status::kDone) << step;
    const Request request = reader.TakeRequest();
    EXPECT_EQ(request.method, "POST");
    EXPECT_EQ(request.path, "/p/a");
    EXPECT_EQ(request.query, "q=1&r");
    EXPECT_EQ(request.body, "hello world");
    EXPECT_EQ(request.id, "abc-1");
    EXPECT_EQ(request.Header("HOST"), "h");
    EXPECT_TRUE(request.keep_alive);
  }
}

TEST(RequestReader, StopsAtTheEndOfARequest) {
  RequestReader reader(kMaxHead, kMaxBody);
  const std::string two = "GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n";
  Status status = Status::kNeedMore;
  EXPECT_EQ(reader.Feed(two, &status), two.size() / 2);
  EXPECT_EQ(status, Status::kDone);
  EXPECT_EQ(reader.TakeRequest().path, "/a");
}

TEST(RequestReader, EnforcesLimits) {
  const auto outcome = [](const std::string& text) {
    RequestReader reader(kMaxHead, kMaxBody);
    return FeedAll(reader, text, 7);
  };
  EXPECT_EQ(outcome("GET / HTTP/1.1\r\nHost: h\r\nX: " + std::string(2000, 'x')),
            Status::kHeadTooLarge);
  EXPECT_EQ(outcome("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 101\r\n\r\n"),
            Status::kBodyTooLarge);
  EXPECT_EQ(
      outcome("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n" + std::string(100, 'x')),
      Status::kDone);
  std::string chunks = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (int i = 0; i < 20; ++i) {
    chunks += "8\r\n12345678\r\n";
  }
  EXPECT_EQ(outcome(chunks), Status::kBodyTooLarge);
}

TEST(RequestReader, RefusesWhatIsNotHttp) {
  for (const std::string text :
       {"garbage\r\n\r\n", "GET / HTTP/3.0\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET / HTTP/1.1\r\nbad header\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"}) {
    RequestReader reader(kMaxHead, kMaxBody);
    EXPECT_EQ(FeedAll(reader, text, 3), Status::kBad) << text;
  }
}

TEST(RequestReader, RefusesHeadsThatOthersMayFrameDifferently) {
  const auto fault = [](const std::string& version, const std::string& headers) {
    RequestReader reader(kMaxHead, kMaxBody);
    const Status status =
        FeedAll(reader, "POST / HTTP/" + version + "\r\n" + headers + "\r\n0\r\n\r\n", 1000);
    return status == Status::kBad ? reader.fault() : "";
  };
  for (const char* codings :
       {"Transfer-Encoding: gzip\r\n", "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, gzip\r\n", "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding:\r\n",
        "Transfer-Encoding: identity\r\n", "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked;x=1\r\n"}) {
    EXPECT_NE(fault("1.1", std::string("Host: h\r\n") + codings), "") << codings;
  }
  EXPECT_EQ(fault("1.1", "Host: h\r\nTransfer-Encoding: Chunked \r\n"), "");
  EXPECT_NE(fault("1.0", "Transfer-Encoding: chunked\r\n"), "");
  EXPECT_NE(fault("1.1", "").find("no Host"), std::string::npos);
  EXPECT_NE(fault("1.1", "Host: a\r\nHost: a\r\n").find("more than one Host"), std::string::npos);
  EXPECT_EQ(fault("1.0", ""), "");
}

TEST(RequestReader, KnowsTheHeadersBeforeAFault) {
  RequestReader reader(kMaxHead, kMaxBody);
  FeedAll(reader, "POST /p HTTP/1.1\r\nX-Request-Id: abc\r\nContent-Length: 101\r\n\r\n", 5);
  EXPECT_EQ(reader.Head().id, "abc");
  EXPECT_EQ(reader.Head().path, "/p");
}

TEST(RequestReader, ReducesAbsoluteTargetsAndUnsafeIds) {
  RequestReader reader(kMaxHead, kMaxBody);
  EXPECT_EQ(FeedAll(reader, "GET http://h:1/v1/x?y HTTP/1.0\r\nX-Request-Id: a b\r\n\r\n", 100),
            Status::kDone);
  const Request request = reader.TakeRequest();
  EXPECT_EQ(request.path, "/v1/x");
  EXPECT_TRUE(request.http10);
  EXPECT_FALSE(request.keep_alive);
  EXPECT_NE(request.id, "a b");
}

TEST(RequestReader, IdsDoNotRepeat) {
  std::set<std::string> ids;
  for (int i = 0; i < 10000; ++i) {
    ids.insert(NewRequestId());
  }
  EXPECT_EQ(ids.size(), 10000U);
}

}  // namespace
}  // namespace mach::http
