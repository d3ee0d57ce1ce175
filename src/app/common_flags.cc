#include "app/common_flags.h"

#include <cmath>

namespace mach::app {

CLI::Option* AddThreads(CLI::App& app, int& threads) {
  return app.add_option("--threads", threads, "Compute threads; 0 = physical cores")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
}

CLI::Option* AddMemoryGb(CLI::App& app, uint64_t& ceiling_bytes) {
  return app
      .add_option_function<double>(
          "--memory-gb",
          [&ceiling_bytes](double gigabytes) { ceiling_bytes = GigabytesToBytes(gigabytes); },
          "Hard ceiling of this process's memory in GB (1e9 bytes); 0 = none")
      ->check(GigabytesRange())
      ->default_str("0");
}

CLI::Option* AddMaxContext(CLI::App& app, int64_t& max_context) {
  return app
      .add_option("--max-context", max_context,
                  "Tokens of prompt and answer together; 0 = the model's own limit, or what memory "
                  "has room for")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
}

CLI::Range GigabytesRange() {
  return {0.0, 1e6, "GB"};
}

uint64_t GigabytesToBytes(double gigabytes) {
  return static_cast<uint64_t>(std::llround(gigabytes * 1e9));
}

}  // namespace mach::app
