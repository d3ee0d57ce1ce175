// mach serve: the OpenAI-compatible server.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>

#include "api/json_text.h"
#include "app/command.h"
#include "app/common_flags.h"
#include "app/load_watch.h"
#include "app/residency_flags.h"
#include "base/log.h"
#include "chat/output_parser.h"
#include "formats/hub.h"
#include "server/serve.h"

namespace mach::app {
namespace {

constexpr int kProductionPort = 8080;
constexpr int kGenericPort = 8000;
constexpr double kLoadingLogSeconds = 5;

struct ServeFlags {
  std::string checkpoint;
  ResidencyFlags residency;
  std::string backend = "production";
  std::optional<int> port;
  uint64_t max_body_mb = 64;
  std::string tool_call_parser = "auto";
  std::string reasoning_parser = "auto";
  std::string reasoning_field = "reasoning_content";
  std::string log_format = "text";
  std::string log_level = "info";
  loading::ModelOptions load;
  server::ServeOptions options;
};

// Both production aliases mean the same path.
bool IsGeneric(const ServeFlags& flags) {
  return flags.backend == "openai";
}

// A body that its request would have no memory to be parsed in need not be read.
void LimitBodies(uint64_t request_bytes, http::ServerOptions& options) {
  const uint64_t most = request_bytes / api::kBodyCopies;
  if (request_bytes > 0 && most < options.max_body_bytes) {
    LogInfo("request bodies are limited to what memory has room for",
            {{"max_body_bytes", most}, {"requests_bytes", request_bytes}});
    options.max_body_bytes = most;
  }
}

int RunServe(ServeFlags& flags) {
  if (!IsGeneric(flags) && flags.residency.streaming() == flags.residency.no_streaming()) {
    std::fprintf(stderr,
                 "mach serve: give exactly one of --streaming and --no-streaming (or --backend "
                 "openai for the generic path)\n");
    return kExitUsage;
  }
  if (IsGeneric(flags) && (flags.residency.streaming() || flags.residency.no_streaming())) {
    std::fprintf(stderr,
                 "mach serve: --streaming and --no-streaming belong to the production path; "
                 "--backend openai takes neither\n");
    return kExitUsage;
  }
  ConfigureLog(flags.log_level == "debug"     ? LogLevel::kDebug
               : flags.log_level == "warning" ? LogLevel::kWarning
               : flags.log_level == "error"   ? LogLevel::kError
                                              : LogLevel::kInfo,
               flags.log_format == "json" ? LogFormat::kJson : LogFormat::kText);
  server::ServeOptions& options = flags.options;
  loading::ModelOptions& load = flags.load;
  load.checkpoint = formats::ResolveModelPath(flags.checkpoint);
  load.residency = flags.residency.Resolve();
  // A hub id is what clients know the model by; a path is known by its last part.
  if (load.served_name.empty() && load.checkpoint.string() != flags.checkpoint) {
    load.served_name = flags.checkpoint;
  }
  if (flags.tool_call_parser != "auto") {
    load.chat_formats.call = chat::CallFormatFromName(flags.tool_call_parser);
  }
  if (flags.reasoning_parser != "auto") {
    load.chat_formats.reasoning = chat::ReasoningFormatFromName(flags.reasoning_parser);
  }
  options.app.reasoning = {.reasoning_content = flags.reasoning_field != "reasoning",
                           .reasoning = flags.reasoning_field != "reasoning_content"};
  // What cannot be served as asked is refused before a port is taken.
  load.serves = true;
  auto plan = std::make_shared<loading::ServePlan>(loading::PlanServing(load));
  const uint64_t request_bytes = plan->load.memory.request_bytes;
  options.checkpoint = load.checkpoint;
  options.loader = [plan](loading::LoadProgress* progress) {
    const LoadWatch watch(*progress, kLoadingLogSeconds, LoadingLog());
    return loading::LoadModel(std::move(*plan), progress);
  };
  options.http.port = flags.port.value_or(IsGeneric(flags) ? kGenericPort : kProductionPort);
  options.http.max_body_bytes = flags.max_body_mb << 20;
  LimitBodies(request_bytes, options.http);
  return server::Serve(std::move(options));
}

}  // namespace

Command AddServe(CLI::App& root) {
  auto flags = std::make_shared<ServeFlags>();
  server::ServeOptions& options = flags->options;
  loading::ModelOptions& load = flags->load;
  CLI::App* app = root.add_subcommand("serve", "Serve a checkpoint over the OpenAI API");
  app->add_option("checkpoint", flags->checkpoint,
                  "Checkpoint directory, or a hub id in the local Hugging Face cache")
      ->required();

  const auto* path = "Serving path (exactly one of --streaming, --no-streaming, --backend openai)";
  app->add_option("--backend", flags->backend,
                  "openai: any registered architecture from a plain MLX or Hugging Face "
                  "directory. production and dflash name the production path")
      ->check(CLI::IsMember({"production", "dflash", "openai"}))
      ->capture_default_str()
      ->group(path);
  flags->residency.Register(*app, path, loading::Residency::kAllInMemory, load);

  const auto* model = "Model";
  app->add_option("--served-model-name", load.served_name,
                  "Model id that clients see (default: the hub id or the directory's name)")
      ->group(model);
  AddMaxContext(*app, load.engine.max_context)->group(model);
  AddMemoryGb(*app, load.ceiling_bytes)->group(model);
  AddThreads(*app, load.cpu.threads)->group(model);

  const auto* chats = "Chats";
  const auto or_auto = [](std::vector<std::string> names) {
    names.insert(names.begin(), "auto");
    return names;
  };
  app->add_option("--tool-call-parser", flags->tool_call_parser,
                  "How the model writes tool calls; auto: as its chat template has them")
      ->check(CLI::IsMember(or_auto(chat::CallFormatNames())))
      ->capture_default_str()
      ->group(chats);
  app->add_option("--reasoning-parser", flags->reasoning_parser,
                  "How it marks its reasoning; auto: as its chat template has it")
      ->check(CLI::IsMember(or_auto(chat::ReasoningFormatNames())))
      ->capture_default_str()
      ->group(chats);
  app->add_option("--reasoning-field", flags->reasoning_field,
                  "The field of answers that reasoning is in: reasoning_content, reasoning or both")
      ->check(CLI::IsMember({"reasoning_content", "reasoning", "both"}))
      ->capture_default_str()
      ->group(chats);

  const auto* network = "Network";
  app->add_option(
         "--host", options.http.host,
         "Address to listen on, or a name: all of its addresses; 0.0.0.0 = every IPv4 address")
      ->capture_default_str()
      ->group(network);
  app->add_option("--port", flags->port,
                  "Port; 0 picks a free one (default: 8080, with --backend openai 8000)")
      ->check(CLI::Range(0, 65535))
      ->group(network);
  app->add_option("--api-key", options.app.gate.api_key,
                  "Key that /v1 requests must carry (default: none is checked)")
      ->envname("MACH_API_KEY")
      // An unset variable of a script must not turn the check off.
      ->check([](const std::string& key) {
        return key.empty() ? std::string("it is empty; leave it out to serve without a key") : "";
      })
      ->group(network);
  app->add_option("--cors-origin", options.app.gate.cors_origins,
                  "Web origin that browsers may call from, beside this machine's; * = any")
      ->group(network);

  app->add_flag_callback(
         "--no-page", [&options] { options.app.page = false; }, "No page for people at /")
      ->group(network);

  const auto* limits = "Limits";
  app->add_option("--max-queue", load.engine.max_queue,
                  "Requests that may wait; more get 503 with Retry-After")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str()
      ->group(limits);
  app->add_option("--max-connections", options.http.max_connections, "Open connections")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str()
      ->group(limits);
  app->add_option("--max-body-mb", flags->max_body_mb, "Largest request body in MiB")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str()
      ->group(limits);
  app->add_option("--grace-s", options.grace_s,
                  "Seconds that running requests get after the first SIGTERM or SIGINT")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str()
      ->group(limits);

  const auto* logging = "Logging";
  app->add_option("--log-format", flags->log_format, "text or json, on stderr")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str()
      ->group(logging);
  app->add_option("--log-level", flags->log_level, "debug, info, warning or error")
      ->check(CLI::IsMember({"debug", "info", "warning", "error"}))
      ->capture_default_str()
      ->group(logging);
  return {app, [flags] { return RunServe(*flags); }};
}

}  // namespace mach::app
