// A progress bar for long work: a redrawn line on a terminal, a line every ten per cent elsewhere.
// Writes to stderr. One thread.
#pragma once

#include <cstdint>
#include <string>

#include "base/clock.h"

namespace mach::app {

class ProgressBar {
 public:
  explicit ProgressBar(std::string label);
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;
  ~ProgressBar();  // ends the line

  void Update(uint64_t done_bytes, uint64_t total_bytes);

 private:
  void Draw(uint64_t done_bytes, uint64_t total_bytes);

  std::string label_;
  bool terminal_;
  bool drawn_ = false;
  double last_draw_s_ = 0;
  int last_tenth_ = -1;
  Stopwatch watch_;
};

}  // namespace mach::app
