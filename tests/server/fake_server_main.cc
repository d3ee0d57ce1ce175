// mach_fake_server: the real HTTP side on the scripted engine, as a process, for the client tests
// and for measuring what HTTP adds to a token. Prints the start-up lines of mach-serve.
#include <CLI/CLI.hpp>

#include "server/serve.h"
#include "tests/server/fake_engine.h"

int main(int argc, char** argv) {
  mach::server::ServeOptions options;
  mach::testing::FakeOptions fake;
  double step_ms = 1;
  CLI::App cli("scripted server");
  options.http.port = 0;
  cli.add_option("--port", options.http.port);
  cli.add_option("--api-key", options.app.gate.api_key);
  cli.add_option("--step-ms", step_ms);
  cli.add_option("--eos-after", fake.eos_after_tokens);
  cli.add_option("--max-context", fake.max_context);
  cli.add_option("--max-queue", fake.max_queue);
  cli.add_option("--load-s", fake.load_s);
  cli.add_option("--grace-s", options.grace_s);
  cli.add_flag("--flood", fake.flood);
  cli.add_flag("--streaming", fake.streaming);
  CLI11_PARSE(cli, argc, argv);
  fake.step_s = step_ms / 1000;
  options.checkpoint = "fake";
  options.loader = [fake](mach::loading::LoadProgress* progress) {
    progress->bytes_total.store(100);
    for (int i = 0; i < 100; ++i) {
      progress->bytes_done.store(static_cast<uint64_t>(i));
      std::this_thread::sleep_for(std::chrono::duration<double>(fake.load_s / 100));
    }
    progress->bytes_done.store(100);
    return mach::testing::MakeFakeModel(fake);
  };
  return mach::server::Serve(std::move(options));
}
