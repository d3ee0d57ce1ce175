// mach generate: one answer in the terminal.
#include <cstdio>
#include <future>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>

#include <nlohmann/json.hpp>

#include "app/command.h"
#include "app/interrupt.h"
#include "app/load_watch.h"
#include "app/residency_flags.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "engine/served_model.h"
#include "formats/hub.h"

namespace mach::app {
namespace {

struct GenerateOptions {
  std::string checkpoint;
  std::string prompt;
  std::string system;
  bool raw = false;
  bool ignore_eos = false;
  int64_t max_tokens = 512;
  std::optional<float> temperature;
  std::optional<float> top_p;
  std::optional<int32_t> top_k;
  std::optional<float> min_p;
  std::optional<int64_t> seed;
  engine::LoadOptions load;
  double memory_gb = 0;
  ResidencyFlags residency;
};

// Prints deltas as they come; the promise is kept by the last event.
class TerminalSink final : public engine::GenerationSink {
 public:
  void OnDelta(engine::Delta delta) override {
    if (first_token_s_ == 0) {
      first_token_s_ = NowSeconds();
    }
    std::fwrite(delta.text.data(), 1, delta.text.size(), stdout);
    std::fflush(stdout);
  }
  void OnFinish(engine::Finish finish) override { finish_ = std::move(finish); }
  void OnDone(const engine::Usage& usage) override { done_.set_value(usage); }
  void OnError(const Error& error) override { done_.set_exception(std::make_exception_ptr(error)); }

  std::future<engine::Usage> Done() { return done_.get_future(); }
  const engine::Finish& finish() const { return finish_; }

 private:
  std::promise<engine::Usage> done_;
  engine::Finish finish_;
  double first_token_s_ = 0;
};

std::unique_ptr<engine::ServedModel> Load(const engine::LoadOptions& options) {
  engine::LoadPlan plan = engine::PlanLoading(options, options.memory_ceiling_bytes);
  engine::LoadProgress progress;
  const LoadWatch watch(progress, kLoadingBarSeconds, LoadingBar());
  return engine::LoadModel(std::move(plan), options, &progress);
}

std::string Prompt(const GenerateOptions& options, const engine::ServedModel& model) {
  if (options.raw || !model.chat_template) {
    return options.prompt;
  }
  nlohmann::ordered_json messages = nlohmann::ordered_json::array();
  if (!options.system.empty()) {
    messages.push_back({{"role", "system"}, {"content", options.system}});
  }
  messages.push_back({{"role", "user"}, {"content", options.prompt}});
  return model.chat_template->Render({{"messages", messages},
                                      {"add_generation_prompt", true},
                                      {"bos_token", model.bos_token},
                                      {"eos_token", model.eos_token}},
                                     UnixSeconds());
}

decode::SamplingParams Sampling(const GenerateOptions& options,
                                const engine::GenerationDefaults& defaults) {
  decode::SamplingParams sampling;
  sampling.temperature = options.temperature.value_or(defaults.temperature.value_or(1.0F));
  sampling.top_p = options.top_p.value_or(defaults.top_p.value_or(1.0F));
  sampling.top_k = options.top_k.value_or(defaults.top_k.value_or(0));
  sampling.min_p = options.min_p.value_or(defaults.min_p.value_or(0.0F));
  sampling.repetition_penalty = defaults.repetition_penalty.value_or(1.0F);
  sampling.seed = options.seed;
  return sampling;
}

int RunGenerate(GenerateOptions& options) {
  if (options.prompt == "-") {
    options.prompt.assign(std::istreambuf_iterator<char>(std::cin), {});
  }
  ConfigureLog(LogLevel::kWarning, LogFormat::kText);
  options.load.checkpoint = formats::ResolveModelPath(options.checkpoint);
  options.load.memory_ceiling_bytes = GigabytesToBytes(options.memory_gb);
  options.residency.Apply(options.load);
  const auto model = Load(options.load);
  engine::GenerationRequest request;
  request.id = "terminal";
  const bool chat = !options.raw && model->chat_template;
  request.prompt_tokens = model->tokenizer->Encode(Prompt(options, *model), !chat);
  request.sampling = Sampling(options, model->defaults);
  const int64_t room = model->info.max_context - static_cast<int64_t>(request.prompt_tokens.size());
  request.stop.max_tokens = std::min(options.max_tokens, room);
  request.stop.ignore_eos = options.ignore_eos;

  const auto sink = std::make_shared<TerminalSink>();
  std::future<engine::Usage> done = sink->Done();
  CatchInterrupts();
  const auto handle = model->engine->Submit(std::move(request), sink);
  while (done.wait_for(std::chrono::milliseconds(50)) != std::future_status::ready) {
    if (Interrupted()) {
      handle->Cancel();
    }
  }
  try {
    const engine::Usage usage = done.get();
    const auto rate = [](int64_t tokens, double seconds) {
      return seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
    };
    std::fprintf(stdout, "\n");
    std::fprintf(
        stderr, "[prompt %lld tokens, %.1f tok/s; generated %lld tokens, %.1f tok/s; %s]\n",
        static_cast<long long>(usage.prompt_tokens), rate(usage.prompt_tokens, usage.prefill_s),
        static_cast<long long>(usage.completion_tokens),
        rate(usage.completion_tokens, usage.decode_s),
        sink->finish().reason == engine::FinishReason::kLength ? "cut by --max-tokens"
                                                               : "ended by itself");
    if (usage.experts.misses > 0) {
      const int64_t wanted = usage.experts.hits + usage.experts.misses;
      std::fprintf(stderr,
                   "[experts: %lld of %lld in memory, %.1f MB read, waited %.2f s for them]\n",
                   static_cast<long long>(usage.experts.hits), static_cast<long long>(wanted),
                   static_cast<double>(usage.experts.bytes_read) / 1e6, usage.experts.stall_s);
    }
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kCancelled) {
      throw;
    }
    std::fprintf(stderr, "\n[interrupted]\n");
  }
  return kExitOk;
}

}  // namespace

Command AddGenerate(CLI::App& root) {
  auto options = std::make_shared<GenerateOptions>();
  CLI::App* app = root.add_subcommand("generate", "Answer one prompt in the terminal");
  app->add_option("checkpoint", options->checkpoint, "Checkpoint directory or cached hub id")
      ->required();
  app->add_option("-p,--prompt", options->prompt, "The prompt; - reads it from stdin")->required();
  app->add_option("--system", options->system, "A system message before it");
  app->add_flag("--raw", options->raw, "Continue the text as it is, without the chat template");
  app->add_option("--max-tokens", options->max_tokens, "Tokens to generate at most")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 32))
      ->capture_default_str();
  app->add_flag("--ignore-eos", options->ignore_eos, "Go on after the model's end token");
  const auto* sampling = "Sampling (default: the checkpoint's generation_config.json)";
  app->add_option("--temperature", options->temperature, "0 is greedy")
      ->check(CLI::NonNegativeNumber)
      ->group(sampling);
  app->add_option("--top-p", options->top_p, "Nucleus, 0 to 1")
      ->check(CLI::Range(0.0, 1.0))
      ->group(sampling);
  app->add_option("--top-k", options->top_k, "Keep the k likeliest; 0 is off")
      ->check(CLI::NonNegativeNumber)
      ->group(sampling);
  app->add_option("--min-p", options->min_p, "Relative to the likeliest, 0 to 1")
      ->check(CLI::Range(0.0, 1.0))
      ->group(sampling);
  app->add_option("--seed", options->seed, "Same seed, same text")->group(sampling);
  const auto* memory = "Memory";
  options->residency.Register(*app, memory, engine::Residency::kFitting);
  app->add_option("--max-context", options->load.max_context,
                  "Tokens of prompt and answer together; 0 = the model's own limit, or what memory "
                  "has room for")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str()
      ->group(memory);
  app->add_option("--memory-gb", options->memory_gb,
                  "Hard ceiling of this process's memory in GB (1e9 bytes); 0 = none")
      ->check(GigabytesRange())
      ->capture_default_str()
      ->group(memory);
  app->add_option("--threads", options->load.threads, "Compute threads; 0 = physical cores")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  return {app, [options] { return RunGenerate(*options); }};
}

}  // namespace mach::app
