#include "app/residency_flags.h"

#include "app/common_flags.h"
#include "base/error.h"
#include "experts/cache_policy.h"

namespace mach::app {

void ResidencyFlags::Register(CLI::App& app, const std::string& group, loading::Residency neither,
                              loading::ModelOptions& options) {
  neither_ = neither;
  experts::StreamOptions& streaming = options.streaming;
  app.add_flag("--streaming", streaming_, "Experts streamed from the SSD, a bank of them in memory")
      ->group(group);
  app.add_flag("--no-streaming", no_streaming_,
               std::string("All experts resident") +
                   (neither == loading::Residency::kFitting ? " (default if memory has room)" : ""))
      ->group(group);
  const auto of_streaming = [&](CLI::Option* option) {
    of_streaming_.push_back(option->group(group));
    return option;
  };
  of_streaming(AddGigabytes(app, "--expert-cache-gb", streaming.bank_bytes,
                            "Bank of streamed experts in GB (1e9 bytes); 0 = what is left of "
                            "--memory-gb or of 90 % of the available memory beside weights, "
                            "context and activations; `mach check` prints it"));
  of_streaming(app.add_flag("--expert-prefetch,!--no-expert-prefetch", streaming.prefetch,
                            std::string("Read ahead what the next layer will probably route to "
                                        "(default: ") +
                                (streaming.prefetch ? "yes" : "no") + ")"));
  of_streaming(
      app.add_option("--expert-policy", streaming.policy,
                     "Which expert leaves a full bank: the least recently used (lru), the least "
                     "frequently used lately (lfu), or the one whose next use is expected last "
                     "(next_use). Default: " +
                         streaming.policy))
      ->check(CLI::IsMember(experts::CachePolicyNames()));
  of_streaming(app.add_option("--io", streaming.read.engine,
                              "How experts are read: auto, io_uring or pread (default: " +
                                  streaming.read.engine + ")"))
      ->check(CLI::IsMember({"auto", "io_uring", "pread"}));
  of_streaming(app.add_flag("--allow-buffered-io", streaming.read.allow_buffered,
                            "Diagnostic: read through the page cache where direct reads are "
                            "refused, instead of failing"));
  app.add_option(
         "--expert-trace", options.trace_file,
         "Record the experts of every decode step in this file; bench/cache_policy_sim (built "
         "with -DMACH_BENCH=ON) replays it against every policy")
      ->group(group);
  app.add_option("--prefill-chunk", options.engine.prefill_chunk,
                 "Tokens of one forward of prefill. 0 = the largest power of two from 512 to 8192 "
                 "that memory allows; dense models 512")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 20))
      ->capture_default_str()
      ->group(group);
}

loading::Residency ResidencyFlags::Resolve() const {
  if (streaming_ && no_streaming_) {
    throw Error(ErrorCode::kInvalidArgument,
                "--streaming and --no-streaming exclude each other: give one");
  }
  if (streaming_) {
    return loading::Residency::kStreaming;
  }
  for (const CLI::Option* option : of_streaming_) {
    if (option->count() > 0) {
      throw Error(ErrorCode::kInvalidArgument,
                  "--" + option->get_lnames().front() +
                      " belongs to --streaming: without it all experts are resident");
    }
  }
  return no_streaming_ ? loading::Residency::kResident : neither_;
}

}  // namespace mach::app
