// Tokens per second of work over the last seconds. Not thread-safe.
#pragma once

#include <cstdint>
#include <deque>

#include "base/clock.h"

namespace mach::engine {

class RecentRate {
 public:
  void Add(int64_t tokens, double seconds) {
    const double now_s = NowSeconds();
    entries_.push_back({now_s, tokens, seconds});
    while (entries_.front().at_s < now_s - kWindowSeconds) {
      entries_.pop_front();
    }
  }

  double TokensPerSecond() const {
    int64_t tokens = 0;
    double seconds = 0;
    const double oldest_s = NowSeconds() - kWindowSeconds;
    for (const Entry& entry : entries_) {
      if (entry.at_s >= oldest_s) {
        tokens += entry.tokens;
        seconds += entry.seconds;
      }
    }
    return seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
  }

 private:
  static constexpr double kWindowSeconds = 5.0;

  struct Entry {
    double at_s;
    int64_t tokens;
    double seconds;
  };
  std::deque<Entry> entries_;
};

}  // namespace mach::engine
