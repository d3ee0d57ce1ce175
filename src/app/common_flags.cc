#include "app/common_flags.h"

#include <cmath>
#include <utility>

namespace mach::app {

CLI::Option* AddThreads(CLI::App& app, int& threads) {
  return app.add_option("--threads", threads, "Compute threads; 0 = physical cores")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
}

CLI::Option* AddMemoryGb(CLI::App& app, uint64_t& ceiling_bytes) {
  return AddGigabytes(app, "--memory-gb", ceiling_bytes,
                      "Hard ceiling of this process's memory in GB (1e9 bytes); 0 = none");
}

CLI::Option* AddMaxContext(CLI::App& app, int64_t& max_context) {
  return app
      .add_option("--max-context", max_context,
                  "Tokens of prompt and answer together; 0 = the model's own limit, or what memory "
                  "has room for")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
}

CLI::Option* AddGigabytes(CLI::App& app, const char* flag, uint64_t& bytes, std::string help) {
  return app
      .add_option_function<double>(
          flag,
          [&bytes](double gigabytes) {
            bytes = static_cast<uint64_t>(std::llround(gigabytes * 1e9));
          },
          std::move(help))
      ->check(CLI::Range(0.0, 1e6, "GB"))
      ->default_str("0");
}

}  // namespace mach::app
