#include "app/residency_flags.h"

#include <utility>

#include "app/common_flags.h"
#include "base/error.h"
#include "experts/cache_policy.h"
#include "experts/expert_store.h"

namespace mach::app {

void ResidencyFlags::Register(CLI::App& app, const std::string& group,
                              loading::Residency when_neither) {
  neither = when_neither;
  app.add_flag("--streaming", streaming, "Experts streamed from the SSD, a bank of them in memory")
      ->group(group);
  app.add_flag("--no-streaming", no_streaming,
               std::string("All experts resident") +
                   (neither == loading::Residency::kFitting ? " (default if memory has room)" : ""))
      ->group(group);
  app.add_option("--expert-cache-gb", expert_cache_gb,
                 "Bank of streamed experts in GB (1e9 bytes). Default: what is left of --memory-gb "
                 "or of 90 % of the available memory beside weights, context and activations; "
                 "`mach check` prints it")
      ->check(GigabytesRange())
      ->group(group);
  const experts::StreamOptions defaults;
  app.add_flag_function(
         "--expert-prefetch,!--no-expert-prefetch",
         [this](int64_t count) { expert_prefetch = count > 0; },
         std::string("Read ahead what the next layer will probably route to (default: ") +
             (defaults.prefetch ? "yes" : "no") + ")")
      ->group(group);
  app.add_option("--expert-policy", expert_policy,
                 "Which expert leaves a full bank: the least recently used (lru), the least "
                 "frequently used lately (lfu), or the one whose next use is expected last "
                 "(next_use). Default: " +
                     defaults.policy)
      ->check(CLI::IsMember(experts::CachePolicyNames()))
      ->group(group);
  app.add_option("--io", io,
                 "How experts are read: auto, io_uring or pread (default: " + defaults.io + ")")
      ->check(CLI::IsMember({"auto", "io_uring", "pread"}))
      ->group(group);
  app.add_flag("--allow-buffered-io", allow_buffered_io,
               "Diagnostic: read through the page cache where direct reads are refused, instead of "
               "failing")
      ->group(group);
  app.add_option(
         "--expert-trace", expert_trace,
         "Record the experts of every decode step in this file; bench/cache_policy_sim (built "
         "with -DMACH_BENCH=ON) replays it against every policy")
      ->group(group);
  app.add_option("--prefill-chunk", prefill_chunk,
                 "Tokens of one forward of prefill. 0 = the largest power of two from 512 to 8192 "
                 "that memory allows; dense models 512")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 20))
      ->capture_default_str()
      ->group(group);
}

void ResidencyFlags::Apply(loading::RunnableOptions& options) const {
  if (streaming && no_streaming) {
    throw Error(ErrorCode::kInvalidArgument,
                "--streaming and --no-streaming exclude each other: give one");
  }
  if (!streaming) {
    const std::pair<bool, const char*> given[] = {
        {expert_cache_gb.has_value(), "--expert-cache-gb"},
        {expert_prefetch.has_value(), "--expert-prefetch"},
        {!expert_policy.empty(), "--expert-policy"},
        {io.has_value(), "--io"},
        {allow_buffered_io, "--allow-buffered-io"}};
    for (const auto& [is_given, flag] : given) {
      if (is_given) {
        throw Error(
            ErrorCode::kInvalidArgument,
            std::string(flag) + " belongs to --streaming: without it all experts are resident");
      }
    }
  }
  loading::ExpertOptions& experts = options.experts;
  experts.residency = streaming      ? loading::Residency::kStreaming
                      : no_streaming ? loading::Residency::kResident
                                     : neither;
  if (expert_cache_gb) {
    experts.cache_bytes = GigabytesToBytes(*expert_cache_gb);
  }
  experts.prefetch = expert_prefetch;
  experts.policy = expert_policy;
  experts.io = io.value_or(experts.io);
  experts.allow_buffered = allow_buffered_io;
  experts.trace_file = expert_trace;
  options.prefill_chunk = prefill_chunk;
}

}  // namespace mach::app
