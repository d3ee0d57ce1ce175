#include "base/log.h"

#include <cmath>
#include <cstdio>

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

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

spdlog::logger& Logger() {
  static const std::shared_ptr<spdlog::logger> kLogger = [] {
    auto logger =
        std::make_shared<spdlog::logger>("mach", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %l %v");
    logger->flush_on(spdlog::level::debug);
    return logger;
  }();
  return *kLogger;
}

void AppendJsonString(std::string& out, std::string_view text) {
  out += '"';
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20) {
      char escaped[8];
      std::snprintf(escaped, sizeof(escaped), "\\u%04x", byte);
      out += escaped;
    } else {
      out += c;
    }
  }
  out += '"';
}

bool NeedsQuotes(std::string_view text) {
  if (text.empty()) {
    return true;
  }
  for (const char c : text) {
    if (static_cast<unsigned char>(c) <= ' ' || c == '"' || c == '=') {
      return true;
    }
  }
  return false;
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
  } else {
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
  }
  // Passed as an argument, not as a format string: messages may hold braces.
  Logger().log(ToSpdlog(level), "{}", line);
}

}  // namespace mach
