// Bytes of a connection, in pieces, through the HTTP parser and the whole application on the
// scripted engine, without sockets. Every complete request must get a response with a sensible
// status, and nothing may crash.
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "http/request_reader.h"
#include "server/app.h"
#include "tests/server/fake_engine.h"

namespace {

using mach::http::RequestReader;

// The I/O thread of the fuzzer: work posted from other threads, run by the fuzzer's own.
class Loop {
 public:
  void Post(std::function<void()> work) {
    const std::lock_guard lock(mutex_);
    work_.push_back(std::move(work));
  }
  bool RunOne() {
    std::function<void()> work;
    {
      const std::lock_guard lock(mutex_);
      if (work_.empty()) {
        return false;
      }
      work = std::move(work_.front());
      work_.pop_front();
    }
    work();
    return true;
  }

 private:
  std::mutex mutex_;
  std::deque<std::function<void()>> work_;
};

class MemoryExchange : public mach::http::Exchange {
 public:
  MemoryExchange(Loop& loop, mach::http::Request request)
      : loop_(loop), request_(std::move(request)) {}

  mach::http::Request& request() override { return request_; }
  void Post(std::function<void()> work) override { loop_.Post(std::move(work)); }
  void Respond(mach::http::Response response) override {
    MACH_CHECK(!finished_ && !started_);
    MACH_CHECK(response.status >= 200 && response.status < 600);
    MACH_CHECK(response.status != 500);
    finished_ = true;
  }
  void StartStream(mach::http::Response /*head*/,
                   std::function<std::string()> /*heartbeat*/) override {
    MACH_CHECK(!finished_ && !started_);
    started_ = true;
  }
  void Write(std::string_view data) override { streamed_ += data; }
  void Finish() override {
    MACH_CHECK(started_ && !finished_);
    const bool named = streamed_.starts_with("event: ");  // no mark but the last event
    MACH_CHECK(streamed_.ends_with(named ? "}\n\n" : "data: [DONE]\n\n"));
    finished_ = true;
  }
  size_t backlog_bytes() const override { return 0; }
  void OnDrained(std::function<void()> /*callback*/) override {}
  void OnClose(std::function<void()> /*callback*/) override {}
  bool closed() const override { return false; }
  bool finished() const { return finished_; }

 private:
  Loop& loop_;
  mach::http::Request request_;
  bool started_ = false;
  bool finished_ = false;
  std::string streamed_;
};

struct Fixture {
  Fixture() : host("fake"), app(Options(), host) {
    mach::ConfigureLog(mach::LogLevel::kError, mach::LogFormat::kText);
    mach::testing::FakeOptions fake;
    fake.flood = true;
    fake.max_context = 512;
    host.SetReady(mach::testing::MakeFakeModel(fake));
  }
  static mach::server::AppOptions Options() {
    mach::server::AppOptions options;
    options.workers = 1;
    return options;
  }

  Loop loop;
  mach::server::ModelHost host;
  mach::server::App app;
};

void Serve(Fixture& fixture, mach::http::Request request) {
  // Scripted behaviours that take long or fail on purpose are not what is looked for here.
  if (request.body.find("[[") != std::string::npos) {
    return;
  }
  const auto exchange = std::make_shared<MemoryExchange>(fixture.loop, std::move(request));
  fixture.app.Handle(exchange);
  const double deadline_s = mach::NowSeconds() + 100;
  while (!exchange->finished()) {
    if (!fixture.loop.RunOne()) {
      std::this_thread::yield();
    }
    MACH_CHECK(mach::NowSeconds() < deadline_s);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static auto& fixture = *new Fixture();  // threads of its own: never destroyed
  if (size == 0) {
    return 0;
  }
  const size_t step = 1 + data[0];
  const std::string bytes(reinterpret_cast<const char*>(data + 1), size - 1);
  auto reader = std::make_unique<RequestReader>(4096, 1 << 16);
  std::string buffer;
  size_t at = 0;
  while (at < bytes.size() || !buffer.empty()) {
    buffer += bytes.substr(std::min(at, bytes.size()), step);
    at += step;
    auto status = RequestReader::Status::kNeedMore;
    buffer.erase(0, reader->Feed(buffer, &status));
    if (status == RequestReader::Status::kDone) {
      Serve(fixture, reader->TakeRequest());
      reader = std::make_unique<RequestReader>(4096, 1 << 16);
    } else if (status == RequestReader::Status::kHeadDone) {
      fixture.app.RefuseHead(reader->Head());
    } else if (status != RequestReader::Status::kNeedMore || at >= bytes.size()) {
      break;
    }
  }
  return 0;
}
