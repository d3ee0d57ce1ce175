#include "app/progress_bar.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <utility>

#include <unistd.h>

namespace mach::app {
namespace {

constexpr double kRedrawSeconds = 0.1;
constexpr int kBarCells = 30;

std::string Duration(double seconds) {
  const auto whole = static_cast<int>(std::lround(seconds));
  char text[32];
  std::snprintf(text, sizeof(text), "%d:%02d", whole / 60, whole % 60);
  return text;
}

}  // namespace

ProgressBar::ProgressBar(std::string label)
    : label_(std::move(label)), terminal_(::isatty(STDERR_FILENO) == 1) {}

ProgressBar::~ProgressBar() {
  if (drawn_ && terminal_) {
    std::fprintf(stderr, "\n");
  }
}

void ProgressBar::Update(uint64_t done_bytes, uint64_t total_bytes) {
  const double now = NowSeconds();
  const bool complete = done_bytes >= total_bytes;
  if (terminal_ && !complete && now - last_draw_s_ < kRedrawSeconds) {
    return;
  }
  const int tenth = total_bytes == 0
                        ? 10
                        : static_cast<int>(10 * std::min(done_bytes, total_bytes) / total_bytes);
  if (!terminal_ && tenth == last_tenth_) {
    return;
  }
  last_tenth_ = tenth;
  last_draw_s_ = now;
  Draw(done_bytes, total_bytes);
}

void ProgressBar::Draw(uint64_t done_bytes, uint64_t total_bytes) {
  const double share =
      total_bytes == 0
          ? 1
          : std::min(1.0, static_cast<double>(done_bytes) / static_cast<double>(total_bytes));
  const double elapsed = watch_.ElapsedSeconds();
  const double mb = static_cast<double>(done_bytes) / 1e6;
  const double rate = elapsed > 0 ? mb / elapsed : 0;
  const double left = share > 0 ? elapsed * (1 - share) / share : 0;
  if (terminal_) {
    std::string bar(static_cast<size_t>(share * kBarCells), '#');
    bar.resize(kBarCells, '.');
    std::fprintf(stderr, "\r%s [%s] %3.0f %%  %.0f/%.0f MB  %.0f MB/s  ETA %s ", label_.c_str(),
                 bar.c_str(), share * 100, mb, static_cast<double>(total_bytes) / 1e6, rate,
                 Duration(left).c_str());
    std::fflush(stderr);
  } else {
    std::fprintf(stderr, "%s %3.0f %%  %.0f MB/s\n", label_.c_str(), share * 100, rate);
  }
  drawn_ = true;
}

}  // namespace mach::app
