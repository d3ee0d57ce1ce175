// Structured logging to stderr: a message and key=value fields, as text or as JSON lines. Bytes
// that are not UTF-8 become U+FFFD, so that every JSON line parses. Thread-safe; each call writes
// one whole line, and none waits for whoever reads stderr: lines that a full pipe does not take are
// dropped and counted in a later one. stdout belongs to results (start-up signals, generated text,
// tables), never to the log.
#pragma once

#include <concepts>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>

namespace mach {

enum class LogLevel { kDebug, kInfo, kWarning, kError };
enum class LogFormat { kText, kJson };

struct LogField {
  LogField(std::string_view k, std::string_view v) : key(k), value(v), quoted(true) {}
  LogField(std::string_view k, const std::string& v) : key(k), value(v), quoted(true) {}
  LogField(std::string_view k, const char* v) : key(k), value(v), quoted(true) {}
  LogField(std::string_view k, bool v) : key(k), value(v ? "true" : "false"), quoted(false) {}
  template <typename T>
  requires((std::integral<T> || std::floating_point<T>)&&!std::same_as<T, bool>)
      LogField(std::string_view k, T v)
      : key(k), value(FormatNumber(v)), quoted(false) {}

  std::string_view key;
  std::string value;
  bool quoted;  // a string in JSON; in text, quoted only where it is not plain ASCII in one word

 private:
  static std::string FormatNumber(double v);
  static std::string FormatNumber(float v) { return FormatNumber(static_cast<double>(v)); }
  template <std::integral T>
  static std::string FormatNumber(T v) {
    return std::to_string(v);
  }
};

// Process-wide; call once in main before threads start. Defaults: kInfo, kText.
void ConfigureLog(LogLevel minimum, LogFormat format);

void Log(LogLevel level, std::string_view message, std::span<const LogField> fields);

inline void LogDebug(std::string_view message, std::initializer_list<LogField> fields = {}) {
  Log(LogLevel::kDebug, message, {fields.begin(), fields.size()});
}
inline void LogInfo(std::string_view message, std::initializer_list<LogField> fields = {}) {
  Log(LogLevel::kInfo, message, {fields.begin(), fields.size()});
}
inline void LogWarning(std::string_view message, std::initializer_list<LogField> fields = {}) {
  Log(LogLevel::kWarning, message, {fields.begin(), fields.size()});
}
inline void LogError(std::string_view message, std::initializer_list<LogField> fields = {}) {
  Log(LogLevel::kError, message, {fields.begin(), fields.size()});
}

}  // namespace mach
