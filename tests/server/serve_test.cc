// The process: signals, shutdown, and a log that nobody reads.
#include <array>
#include <chrono>
#include <csignal>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/http/raw_client.h"

namespace mach::server {
namespace {

using mach::testing::RawClient;

// mach_fake_server as a child; killed if it still runs at the end.
class Process {
 public:
  explicit Process(std::vector<std::string> arguments) {
    EXPECT_EQ(pipe(out_.data()), 0);
    EXPECT_EQ(pipe(log_.data()), 0);
    arguments.insert(arguments.begin(), MACH_FAKE_SERVER);
    std::vector<char*> argv;
    for (std::string& argument : arguments) {
      argv.push_back(argument.data());
    }
    argv.push_back(nullptr);
    pid_ = fork();
    if (pid_ == 0) {
      dup2(out_[1], STDOUT_FILENO);
      dup2(log_[1], STDERR_FILENO);
      for (const int end : {out_[0], out_[1], log_[0], log_[1]}) {
        close(end);
      }
      execv(argv[0], argv.data());
      _exit(127);
    }
    close(out_[1]);
    close(log_[1]);
    std::string text;
    for (char c = 0; text.find("/v1\n") == std::string::npos && read(out_[0], &c, 1) == 1;) {
      text += c;
    }
    const size_t at = text.find("serving on http://127.0.0.1:");
    EXPECT_NE(at, std::string::npos) << text;
    port_ = at == std::string::npos ? 0 : std::stoi(text.substr(at + 28));
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  ~Process() {
    if (!status_) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
    close(out_[0]);
    close(log_[0]);
  }

  int port() const { return port_; }
  void Signal() const { kill(pid_, SIGTERM); }

  // Until the log has `text`; false if it ends before.
  bool WaitForLog(const std::string& text) {
    std::string log;
    for (char c = 0; log.find(text) == std::string::npos;) {
      if (read(log_[0], &c, 1) != 1) {
        return false;
      }
      log += c;
    }
    return true;
  }
  // The first signal, and a second one that is late enough to be another wish.
  void SignalTwice() {
    Signal();
    ASSERT_TRUE(WaitForLog("shutting down"));
    std::this_thread::sleep_for(std::chrono::milliseconds(1200));
    Signal();
  }

  // The exit status; none if it goes on running, -1 if it was killed.
  std::optional<int> Wait(double seconds) {
    const double deadline_s = NowSeconds() + seconds;
    while (!status_ && NowSeconds() < deadline_s) {
      int status = 0;
      if (waitpid(pid_, &status, WNOHANG) == pid_) {
        status_ = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return status_;
  }

 private:
  pid_t pid_ = -1;
  int port_ = 0;
  std::array<int, 2> out_{};
  std::array<int, 2> log_{};
  std::optional<int> status_;
};

constexpr double kPatienceS = 60;
constexpr char kFirstText[] = R"("delta":{"content":")";  // the rest of it follows

std::string Chat(const std::string& text, const std::string& more = "") {
  const std::string body =
      R"({"messages":[{"role":"user","content":")" + text + R"("}],"stream":true)" + more + "}";
  return "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: " +
         std::to_string(body.size()) + "\r\n\r\n" + body;
}

void Sleep(double seconds) {
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
}

TEST(Serve, ALogThatNobodyReadsStopsNothing) {
  Process server({});
  RawClient client(server.port());
  for (int i = 0; i < 3000; ++i) {
    client.Send("GET /nope HTTP/1.1\r\nHost: localhost\r\n\r\n");
    ASSERT_EQ(client.ReadResponse().substr(9, 3), "404") << i;
  }
  client.Close();
  server.Signal();
  EXPECT_EQ(server.Wait(kPatienceS), 0);
}

TEST(Serve, TwoSignalsAtOnceAreOne) {
  Process server({"--step-ms", "5", "--eos-after", "100"});
  RawClient client(server.port());
  client.Send(Chat("hi"));
  ASSERT_NE(client.ReadUntil(kFirstText), "");
  server.Signal();
  Sleep(0.01);
  server.Signal();
  const std::string rest = client.ReadUntil("data: [DONE]");
  EXPECT_NE(rest.find("\"finish_reason\":\"stop\""), std::string::npos) << rest;
  client.Close();
  EXPECT_EQ(server.Wait(kPatienceS), 0);
}

TEST(Serve, ASecondSignalEndsStreamsWithTheirLastWords) {
  Process server({"--step-ms", "5"});
  RawClient running(server.port());
  RawClient waiting(server.port());
  running.Send(Chat("[[long]]"));
  ASSERT_NE(running.ReadUntil(kFirstText), "");
  waiting.Send(Chat("hi"));
  ASSERT_NE(waiting.ReadUntil("\"role\""), "");
  server.SignalTwice();
  const Stopwatch watch;
  for (RawClient* client : {&running, &waiting}) {
    const std::string rest = client->ReadUntil("data: [DONE]");
    EXPECT_NE(rest.find("\"error\""), std::string::npos) << rest;
  }
  EXPECT_EQ(server.Wait(kPatienceS), 0);
  EXPECT_LT(watch.ElapsedSeconds(), 20);  // of the grace period's 30
}

// The role chunk comes as soon as a request is queued.
void WaitUntilOneRuns(const Process& server) {
  RawClient client(server.port());
  std::string stats;
  for (int i = 0; i < 10000 && stats.find(R"("active":1)") == std::string::npos; ++i) {
    client.Send("GET /v1/stats HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stats = client.ReadResponse();
  }
  EXPECT_NE(stats.find(R"("active":1)"), std::string::npos);
}

TEST(Serve, EndsEvenIfTheEngineDoesNot) {
  Process server({});
  RawClient client(server.port());
  client.Send(Chat("[[stuck]]"));
  WaitUntilOneRuns(server);
  server.SignalTwice();
  const Stopwatch watch;
  EXPECT_EQ(server.Wait(kPatienceS), 1);
  EXPECT_LT(watch.ElapsedSeconds(), 40);  // of the minute that it is stuck
}

TEST(Serve, TheEndOfTheGracePeriodIsTheEnd) {
  Process server({"--grace-s", "0.2"});
  RawClient client(server.port());
  client.Send(Chat("[[stuck]]"));
  WaitUntilOneRuns(server);
  const Stopwatch watch;
  server.Signal();
  EXPECT_EQ(server.Wait(kPatienceS), 1);
  EXPECT_LT(watch.ElapsedSeconds(), 40);
}

}  // namespace
}  // namespace mach::server
