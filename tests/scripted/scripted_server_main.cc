// mach_scripted_server: `mach serve` with a scripted model in place of a checkpoint, as a process,
// for tests with real clients. script.h says what a script is.
#include <cstdio>
#include <memory>
#include <string>

#include <CLI/CLI.hpp>

#include "backend/cpu/cpu_backend.h"
#include "base/clock.h"
#include "base/log.h"
#include "engine/local_engine.h"
#include "platform/file.h"
#include "server/serve.h"
#include "tests/scripted/scripted_model.h"

namespace mach::testing {
namespace {

constexpr char kFiles[] = MACH_SOURCE_DIR "/tests/scripted/";

struct Flags {
  std::string script;
  std::string record;
  std::string name = "scripted";
  std::string call_parser = "qwen3_coder";
  std::string reasoning_parser = "qwen3";
  int64_t max_context = 65536;
  int32_t max_queue = 256;
  int32_t sequences = 64;
  server::ServeOptions options;
};

// What the model uses and ServedModel has no place for lives as long as the process.
Script& TheScript(const std::string& path) {
  static Script script(ReadWholeFile(path), path);
  return script;
}

int32_t Token(const text::Tokenizer& tokenizer, const char* text) {
  return tokenizer.TokenToId(text).value();
}

loading::ModelInfo Info(const Flags& flags, const models::ModelShape& shape) {
  loading::ModelInfo info;
  info.id = flags.name;
  info.arch = *models::FindArch("qwen3");
  info.max_context = flags.max_context;
  info.layers = shape.layers;
  info.vocab_size = shape.vocab_size;
  info.decode = loading::DecodePathOf(info.path);
  info.threads = 1;
  info.isa = "scripted";
  info.created_unix_s = UnixSeconds();
  return info;
}

std::unique_ptr<loading::ServedModel> Load(const Flags& flags) {
  auto served = std::make_unique<loading::ServedModel>();
  const std::string tokenizer_path = std::string(kFiles) + "tokenizer.json";
  served->tokenizer = text::Tokenizer::FromJson(ReadWholeFile(tokenizer_path), tokenizer_path);
  const text::Tokenizer& tokenizer = *served->tokenizer;
  const std::string template_path = std::string(kFiles) + "chatml.jinja";
  served->chat_template = jinja::ChatTemplate::Parse(
      "{%- set calls_as = '" + flags.call_parser + "' -%}" + ReadWholeFile(template_path),
      template_path);
  served->chat_formats = {*chat::CallFormatFromName(flags.call_parser),
                          *chat::ReasoningFormatFromName(flags.reasoning_parser)};
  served->eos_token = "<|im_end|>";
  served->end_tokens = {Token(tokenizer, "<|endoftext|>"), Token(tokenizer, "<|im_end|>")};
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    if (tokenizer.IsAdded(id)) {
      served->added_tokens.push_back(tokenizer.TokenBytes(id));
    }
  }
  served->budget = std::make_unique<MemoryBudget>();
  auto model = MakeScriptedModel(TheScript(flags.script), tokenizer,
                                 backend::MakeCpuBackend(*served->budget, {.threads = 1}),
                                 {.max_context = flags.max_context,
                                  .end_token = served->end_tokens.back(),
                                  .message_token = Token(tokenizer, "<|im_start|>")});
  served->info = Info(flags, model->shape());
  constexpr int64_t kPrefillChunk = 4096;
  served->info.prefill_chunk = kPrefillChunk;
  served->engine = engine::MakeLocalEngine(
      std::move(model), nullptr, tokenizer, *served->budget,
      {.max_context = flags.max_context,
       .prefill_chunk = kPrefillChunk,
       .max_queue = flags.max_queue,
       .end_tokens = served->end_tokens,
       .limits = {.max_requests = flags.sequences, .max_batch = flags.sequences}});
  return served;
}

int Main(int argc, char** argv) {
  Flags flags;
  server::ServeOptions& options = flags.options;
  CLI::App cli("`mach serve` with a scripted model");
  options.http.port = 0;
  cli.add_option("--script", flags.script, "JSON: see tests/scripted/script.h")->required();
  cli.add_option("--record", flags.record, "File that gets each prompt, as a line of JSON");
  cli.add_option("--served-model-name", flags.name);
  cli.add_option("--tool-call-parser", flags.call_parser)
      ->check(CLI::IsMember({"qwen3_coder", "hermes", "none"}));
  cli.add_option("--reasoning-parser", flags.reasoning_parser)
      ->check(CLI::IsMember({"qwen3", "none"}));
  cli.add_option("--max-context", flags.max_context);
  cli.add_option("--max-queue", flags.max_queue);
  cli.add_option("--sequences", flags.sequences, "That decode together");
  cli.add_option("--host", options.http.host);
  cli.add_option("--port", options.http.port);
  cli.add_option("--api-key", options.app.gate.api_key);
  cli.add_option("--cors-origin", options.app.gate.cors_origins);
  cli.add_option("--max-connections", options.http.max_connections);
  cli.add_option("--grace-s", options.grace_s);
  CLI11_PARSE(cli, argc, argv);
  ConfigureLog(LogLevel::kInfo, LogFormat::kJson);
  options.checkpoint = flags.name;
  Script& script = TheScript(flags.script);  // a wrong one is refused before a port is taken
  if (!flags.record.empty()) {
    script.RecordTo(flags.record);
  }
  options.loader = [&flags](loading::LoadProgress* progress) {
    progress->bytes_total.store(1);
    progress->bytes_done.store(1);
    return Load(flags);
  };
  return server::Serve(std::move(options));
}

}  // namespace
}  // namespace mach::testing

int main(int argc, char** argv) {
  try {
    return mach::testing::Main(argc, argv);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "mach_scripted_server: %s\n", e.what());
    return 1;
  }
}
