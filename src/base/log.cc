#include "base/log.h"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cmath>
#include <cstdio>
#include <mutex>

#include <poll.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "base/json_string.h"

namespace mach {
namespace {

LogFormat g_format = LogFormat::kText;

spdlog::level::level_enum ToSpdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

bool NeedsQuotes(std::string_view text) {
  if (text.empty()) {
    return true;
  }
  for (const char c : text) {
    if (c <= ' ' || c > '~' || c == '"' || c == '=') {
      return true;
    }
  }
  return false;
}

// What a line says, without its time and level.
std::string Payload(std::string_view message, std::span<const LogField> fields) {
  std::string line;
  if (g_format == LogFormat::kJson) {
    line += "\"message\":";
    AppendJsonString(line, message);
    for (const LogField& field : fields) {
      line += ',';
      AppendJsonString(line, field.key);
      line += ':';
      if (field.quoted) {
        AppendJsonString(line, field.value);
      } else {
        line += field.value;
      }
    }
    return line;
  }
  line += message;
  for (const LogField& field : fields) {
    line += ' ';
    line += field.key;
    line += '=';
    if (field.quoted && NeedsQuotes(field.value)) {
      AppendJsonString(line, field.value);
    } else {
      line += field.value;
    }
  }
  return line;
}

// stderr, for threads that must not wait: a line that a full pipe or a stopped terminal does not
// take is dropped, and the next one that goes out says how many were.
class StderrSink final : public spdlog::sinks::base_sink<std::mutex> {
 protected:
  void sink_it_(const spdlog::details::log_msg& msg) override {
    if (dropped_ > 0) {
      const LogField count("count", dropped_);
      const std::string payload = Payload("log lines dropped", std::span(&count, 1));
      if (Write({msg.logger_name, spdlog::level::warn, payload})) {
        dropped_ = 0;
      }
    }
    if (dropped_ > 0 || !Write(msg)) {
      ++dropped_;
    }
  }
  void flush_() override {}

 private:
  // A pipe that poll calls writable takes PIPE_BUF bytes without waiting, and no more for certain.
  bool Write(const spdlog::details::log_msg& msg) {
    spdlog::memory_buf_t line;
    if (cut_) {
      line.push_back('\n');
    }
    formatter_->format(msg, line);
    size_t done = 0;
    while (done < line.size()) {
      pollfd ready{STDERR_FILENO, POLLOUT, 0};
      if (poll(&ready, 1, 0) != 1 || (ready.revents & POLLOUT) == 0) {
        break;
      }
      const ssize_t count =
          write(STDERR_FILENO, line.data() + done, std::min<size_t>(line.size() - done, PIPE_BUF));
      if (count < 0 && errno != EINTR) {
        break;
      }
      done += static_cast<size_t>(std::max<ssize_t>(count, 0));
    }
    if (done > 0) {
      cut_ = done < line.size();
    }
    return done == line.size();
  }

  int64_t dropped_ = 0;
  bool cut_ = false;  // the last line lacks its end
};

spdlog::logger& Logger() {
  static const std::shared_ptr<spdlog::logger> kLogger = [] {
    auto logger = std::make_shared<spdlog::logger>("mach", std::make_shared<StderrSink>());
    logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %l %v");
    return logger;
  }();
  return *kLogger;
}

}  // namespace

std::string LogField::FormatNumber(double v) {
  if (!std::isfinite(v)) {
    return "null";
  }
  char text[32];
  std::snprintf(text, sizeof(text), "%.6g", v);
  return text;
}

void ConfigureLog(LogLevel minimum, LogFormat format) {
  g_format = format;
  Logger().set_level(ToSpdlog(minimum));
  // A JSON line is one whole object: the level and the time are fields of it.
  Logger().set_pattern(format == LogFormat::kJson
                           ? "{\"time\":\"%Y-%m-%dT%H:%M:%S.%e%z\",\"level\":\"%l\",%v}"
                           : "%Y-%m-%dT%H:%M:%S.%e%z %l %v");
}

void Log(LogLevel level, std::string_view message, std::span<const LogField> fields) {
  if (!Logger().should_log(ToSpdlog(level))) {
    return;
  }
  // Passed as an argument, not as a format string: messages may hold braces.
  Logger().log(ToSpdlog(level), "{}", Payload(message, fields));
}

}  // namespace mach
