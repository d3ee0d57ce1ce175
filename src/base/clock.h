// Clocks. Durations are double seconds; names end in _s.
#pragma once

#include <chrono>
#include <cstdint>

namespace mach {

// Monotonic, for measuring.
inline double NowSeconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Wall clock, seconds since 1970-01-01 UTC: the `created` field of API objects.
inline int64_t UnixSeconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

class Stopwatch {
 public:
  double ElapsedSeconds() const { return NowSeconds() - start_s_; }
  void Restart() { start_s_ = NowSeconds(); }

 private:
  double start_s_ = NowSeconds();
};

}  // namespace mach
