// Counters of the HTTP side and their Prometheus text. The engine's own numbers come from its
// Snapshot. Thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "api/errors.h"
#include "engine/engine.h"

namespace mach::server {

// Seconds in fixed buckets, as Prometheus has them.
class Histogram {
 public:
  static constexpr std::array<double, 14> kBounds = {0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
                                                     0.5,   1,     2.5,  5,     10,   30,  120};
  void Observe(double seconds);
  void Append(std::string& out, const std::string& name, const std::string& help) const;

 private:
  std::array<uint64_t, kBounds.size() + 1> counts_{};
  double sum_ = 0;
};

// What is known when an answer ends, however it ends. Times are 0 for what it did not begin.
struct AnswerRecord {
  int64_t prompt_tokens = 0;
  int64_t prefilled_tokens = 0;  // of prompts that were run to their end
  int64_t completion_tokens = 0;
  int64_t cached_tokens = 0;
  double queue_s = 0;
  double prefill_s = 0;
  double decode_s = 0;
  engine::ExpertCost experts;           // of its decoding
  engine::ExpertCost prefill_experts;   // of its prefill
  std::optional<double> first_token_s;  // from the arrival of the request
  double total_s = 0;
  bool cancelled = false;
  bool rejected = false;                // the queue had no room, or the server was stopping
  std::optional<api::ErrorInfo> error;  // what the client was told, in a stream too

  bool failed() const { return error && !cancelled && !rejected; }
};

class Metrics {
 public:
  void CountResponse(const std::string& route, int status);
  void CountAnswer(const AnswerRecord& record);

  // `stats` is null while the model loads.
  std::string PrometheusText(const engine::EngineStats* stats, int connections) const;

 private:
  mutable std::mutex mutex_;
  std::map<std::pair<std::string, int>, uint64_t> responses_;
  uint64_t prompt_tokens_ = 0;
  uint64_t completion_tokens_ = 0;
  uint64_t cached_tokens_ = 0;
  uint64_t cancelled_ = 0;
  uint64_t failed_ = 0;
  uint64_t rejected_ = 0;
  Histogram queue_;
  Histogram prefill_;
  Histogram first_token_;
  Histogram token_interval_;
  Histogram total_;
};

}  // namespace mach::server
