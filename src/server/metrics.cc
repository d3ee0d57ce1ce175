#include "server/metrics.h"

#include <cstdio>
#include <type_traits>

#include "platform/process_memory.h"

namespace mach::server {
namespace {

std::string Number(double value) {
  std::array<char, 32> text;
  std::snprintf(text.data(), text.size(), "%.9g", value);
  return text.data();
}

void AppendMetric(std::string& out, const std::string& name, const char* type, const char* help,
                  const std::string& value) {
  out += "# HELP " + name + " " + help + "\n# TYPE " + name + " " + type + "\n" + name + " " +
         value + "\n";
}

void AppendExperts(std::string& out, const experts::ExpertStats& stats) {
  const auto counter = [&out](const char* name, const char* help, auto value) {
    if constexpr (std::is_integral_v<decltype(value)>) {
      AppendMetric(out, name, "counter", help, std::to_string(value));
    } else {
      AppendMetric(out, name, "counter", help, Number(value));
    }
  };
  const auto gauge = [&out](const char* name, const char* help, int64_t value) {
    AppendMetric(out, name, "gauge", help, std::to_string(value));
  };
  if (stats.streaming) {
    gauge("mach_expert_direct_reads", "1 if experts are read past the page cache, 0 if through it",
          stats.direct ? 1 : 0);
  }
  gauge("mach_experts_resident", "Experts in memory", stats.experts_resident);
  gauge("mach_experts_capacity", "Experts that memory has room for", stats.capacity);
  counter("mach_expert_hits_total", "Experts that were in memory when decoding asked for them",
          stats.hits);
  counter("mach_expert_misses_total", "Experts that were not", stats.misses);
  counter("mach_expert_prefill_hits_total",
          "Experts that were in memory when streamed prefill asked for them", stats.prefill_hits);
  counter("mach_expert_prefill_misses_total", "Experts that were not", stats.prefill_misses);
  counter("mach_expert_evictions_total", "Experts dropped for others", stats.evictions);
  counter("mach_expert_prefetches_total", "Experts asked for on a guess", stats.prefetches);
  counter("mach_expert_prefetch_hits_total", "Guesses that were wanted", stats.prefetch_hits);
  counter("mach_expert_read_bytes_total", "Bytes of experts read from disk", stats.bytes_read);
  counter("mach_expert_read_seconds_total", "Time with a read in flight", stats.read_seconds);
  counter("mach_expert_stall_seconds_total", "Time that inference waited for an expert",
          stats.stall_seconds);
  counter("mach_expert_read_errors_total", "Failed reads and checksums", stats.read_errors);
}

}  // namespace

void Histogram::Observe(double seconds) {
  size_t bucket = 0;
  while (bucket < kBounds.size() && seconds > kBounds[bucket]) {
    ++bucket;
  }
  ++counts_[bucket];
  sum_ += seconds;
}

void Histogram::Append(std::string& out, const std::string& name, const std::string& help) const {
  out += "# HELP " + name + " " + help + "\n# TYPE " + name + " histogram\n";
  uint64_t below = 0;
  for (size_t i = 0; i < kBounds.size(); ++i) {
    below += counts_[i];
    out += name + "_bucket{le=\"" + Number(kBounds[i]) + "\"} " + std::to_string(below) + "\n";
  }
  below += counts_.back();
  out += name + "_bucket{le=\"+Inf\"} " + std::to_string(below) + "\n";
  out += name + "_sum " + Number(sum_) + "\n" + name + "_count " + std::to_string(below) + "\n";
}

void Metrics::CountResponse(const std::string& route, int status) {
  const std::lock_guard lock(mutex_);
  ++responses_[{route, status}];
}

void Metrics::CountAnswer(const AnswerRecord& record) {
  const std::lock_guard lock(mutex_);
  prompt_tokens_ += static_cast<uint64_t>(record.prefilled_tokens);
  completion_tokens_ += static_cast<uint64_t>(record.completion_tokens);
  cached_tokens_ += static_cast<uint64_t>(record.cached_tokens);
  cancelled_ += record.cancelled ? 1 : 0;
  failed_ += record.failed() ? 1 : 0;
  rejected_ += record.rejected ? 1 : 0;
  if (record.cancelled || record.error) {
    return;
  }
  queue_.Observe(record.queue_s);
  prefill_.Observe(record.prefill_s);
  total_.Observe(record.total_s);
  if (record.first_token_s) {
    first_token_.Observe(*record.first_token_s);
  }
  if (record.completion_tokens > 1) {
    token_interval_.Observe(record.decode_s / static_cast<double>(record.completion_tokens));
  }
}

std::string Metrics::PrometheusText(const engine::EngineStats* stats, int connections) const {
  std::string out;
  {
    const std::lock_guard lock(mutex_);
    out +=
        "# HELP mach_http_responses_total Responses by route and status\n"
        "# TYPE mach_http_responses_total counter\n";
    for (const auto& [key, count] : responses_) {
      out += "mach_http_responses_total{route=\"" + key.first + "\",status=\"" +
             std::to_string(key.second) + "\"} " + std::to_string(count) + "\n";
    }
    const auto counter = [&out](const char* name, const char* help, uint64_t value) {
      AppendMetric(out, name, "counter", help, std::to_string(value));
    };
    counter("mach_prompt_tokens_total", "Tokens of prompts that were run, of requests that ended",
            prompt_tokens_);
    counter("mach_completion_tokens_total",
            "Generated tokens of requests that have ended, in any way", completion_tokens_);
    counter("mach_cached_tokens_total", "Prompt tokens served from the prefix cache",
            cached_tokens_);
    counter("mach_generations_cancelled_total", "Generations whose client went away", cancelled_);
    counter("mach_generations_failed_total", "Generations that ended in an error", failed_);
    counter("mach_generations_rejected_total", "Requests that the queue had no room for",
            rejected_);
    queue_.Append(out, "mach_queue_seconds", "Time from arrival in the engine to its start");
    prefill_.Append(out, "mach_prefill_seconds", "Prefill time of a request");
    first_token_.Append(out, "mach_first_token_seconds", "Time to the first token");
    token_interval_.Append(out, "mach_token_interval_seconds",
                           "Mean time between the tokens of a request");
    total_.Append(out, "mach_request_seconds", "Whole time of a generation request");
  }
  const auto gauge = [&out](const char* name, const char* help, double value) {
    AppendMetric(out, name, "gauge", help, Number(value));
  };
  gauge("mach_http_connections", "Open client connections", connections);
  gauge("mach_model_ready", "1 once the model is loaded", stats != nullptr ? 1 : 0);
  if (stats != nullptr) {
    gauge("mach_requests_active", "Generations running",
          static_cast<double>(stats->requests_active));
    gauge("mach_requests_queued", "Generations waiting",
          static_cast<double>(stats->requests_queued));
    gauge("mach_decode_tokens_per_second", "Recent decode speed", stats->recent_decode_tok_s);
    gauge("mach_prefill_tokens_per_second", "Prefill speed of the last request",
          stats->recent_prefill_tok_s);
    if (stats->experts) {
      AppendExperts(out, *stats->experts);
    }
    out +=
        "# HELP mach_accounted_bytes Memory by owner\n"
        "# TYPE mach_accounted_bytes gauge\n";
    for (const auto& [owner, bytes] : stats->accounted_bytes) {
      out += "mach_accounted_bytes{owner=\"" + owner + "\"} " + std::to_string(bytes) + "\n";
    }
  }
  const ProcessMemory memory = ReadProcessMemory();
  gauge("process_resident_memory_bytes", "Resident memory", static_cast<double>(memory.rss_bytes));
  gauge("mach_peak_resident_memory_bytes", "Peak resident memory",
        static_cast<double>(memory.peak_rss_bytes));
  return out;
}

}  // namespace mach::server
