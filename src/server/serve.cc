#include "server/serve.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <mutex>
#include <thread>

#include "base/clock.h"
#include "base/log.h"
#include "server/signals.h"
#include "server/startup.h"

namespace mach::server {
namespace {

void PrintLine(const std::string& line) {
  std::fputs((line + "\n").c_str(), stdout);
  std::fflush(stdout);
}

// Programs that end others may signal a process and its group: two signals at once are one wish.
constexpr double kSecondSignalSeconds = 1.0;
// For the last words of streams that a second signal ends.
constexpr double kLastWordsSeconds = 0.5;
// For clients to close their side after the last response.
constexpr double kClosingSeconds = 1.0;
// For what cancelled requests and closed connections leave to be done.
constexpr double kHardEndSeconds = 5;

// Ends the process if this is not destroyed in time.
class HardEnd {
 public:
  explicit HardEnd(double seconds)
      : thread_([this, seconds] {
          std::unique_lock lock(mutex_);
          if (!changed_.wait_for(lock, std::chrono::duration<double>(seconds),
                                 [&] { return over_; })) {
            LogError("cannot shut down in order: ending now");
            std::_Exit(1);
          }
        }) {}
  HardEnd(const HardEnd&) = delete;
  HardEnd& operator=(const HardEnd&) = delete;
  ~HardEnd() {
    {
      const std::lock_guard lock(mutex_);
      over_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool over_ = false;
  std::thread thread_;
};

// Lets running requests end within the grace period; a second signal ends the wait. What cannot be
// ended then does not keep the process alive.
void ShutDown(const ServeOptions& options, ModelHost& host, http::Server& server, App& app,
              SignalWaiter& signals) {
  const Stopwatch since_first;
  LogInfo("shutting down", {{"grace_s", options.grace_s}});
  server.Drain();
  engine::Engine& engine = *host.ready()->engine;
  std::promise<void> finished;
  std::future<void> done = finished.get_future();
  std::thread stopper([&] {
    engine.Shutdown(options.grace_s);
    server.WaitUntilIdle(kClosingSeconds);
    finished.set_value();
  });
  const double patience_s = options.grace_s + kLastWordsSeconds + kClosingSeconds;
  bool second = false;
  while (!second && since_first.ElapsedSeconds() < patience_s &&
         done.wait_for(std::chrono::seconds(0)) != std::future_status::ready) {
    second = signals.Wait(0.05) && since_first.ElapsedSeconds() >= kSecondSignalSeconds;
  }
  const HardEnd hard_end(kHardEndSeconds);
  std::thread canceller;
  if (second) {
    LogInfo("second signal: stopping at once");
    canceller = std::thread([&engine] { engine.Shutdown(0); });
    done.wait_for(std::chrono::duration<double>(kLastWordsSeconds));
  }
  // Closing the sockets cancels whatever is still running.
  server.Stop();
  stopper.join();
  if (canceller.joinable()) {
    canceller.join();
  }
  app.Stop();
}

}  // namespace

int Serve(ServeOptions options) {
  SignalWaiter signals;
  options.app.gate.host = options.http.host;
  ModelHost host(loading::DirectoryName(options.checkpoint));
  App app(options.app, host);
  http::ServerOptions http_options = options.http;
  http_options.make_error = [&app](const http::Request& head, int status, std::string_view text) {
    return app.HttpError(head, status, text);
  };
  http_options.check_head = [&app](const http::Request& head) { return app.RefuseHead(head); };
  http_options.book_bodies = [&app](uint64_t bytes) { return app.BookBodies(bytes); };
  std::unique_ptr<http::Server> server;
  try {
    server = std::make_unique<http::Server>(
        http_options, [&app](const std::shared_ptr<http::Exchange>& x) { app.Handle(x); });
  } catch (const Error& e) {
    std::fprintf(stderr, "mach serve: %s\n", e.Describe().c_str());
    return 1;
  }
  app.SetConnectionCounter([&server] { return server->connections(); });
  server->Start();
  LogInfo(
      "listening",
      {{"host", options.http.host}, {"addresses", server->addresses()}, {"port", server->port()}});

  const Stopwatch load_time;
  std::atomic<bool> loaded{false};
  std::string failure;
  std::thread loader([&] {
    try {
      auto model = options.loader(&host.progress());
      for (const auto& line : StartupLines(model->info)) {
        PrintLine(line);
      }
      host.SetReady(std::move(model));
      PrintLine(ServingLine(options.http.host, server->port()));
    } catch (const Error& e) {
      failure = e.Describe();
    } catch (const std::exception& e) {
      failure = e.what();
    }
    loaded.store(true);
    signals.Wake();
  });

  bool interrupted = signals.Wait(-1);
  if (!loaded.load() && interrupted) {
    // Loading cannot be stopped half-way, and nothing is running that would need an orderly end.
    server->Stop();
    std::fflush(stdout);
    std::_Exit(0);
  }
  loader.join();
  if (host.ready() == nullptr) {
    std::fprintf(stderr, "mach serve: %s\n", failure.c_str());
    server->Stop();
    return 1;
  }
  LogInfo("model ready",
          {{"model", host.ready()->info.id}, {"load_s", load_time.ElapsedSeconds()}});
  if (!interrupted) {
    signals.Wait(-1);
  }
  ShutDown(options, host, *server, app, signals);
  return 0;
}

}  // namespace mach::server
