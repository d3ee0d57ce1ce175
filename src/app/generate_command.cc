// mach generate: one answer in the terminal.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <future>
#include <iostream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "app/command.h"
#include "app/common_flags.h"
#include "app/interrupt.h"
#include "app/load_watch.h"
#include "app/residency_flags.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "formats/hub.h"
#include "loading/served_model.h"

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
  loading::ModelOptions load;
  ResidencyFlags residency;
};

// Prints deltas as they arrive; OnDone or OnError completes the future.
class TerminalSink final : public engine::GenerationSink {
 public:
  engine::Flow OnDelta(engine::Delta delta) override {
    const std::string text = decode::JoinPieces(delta.pieces, /*with_special=*/false);
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
    return engine::Flow::kGoOn;
  }
  void OnFinish(engine::Finish finish) override { finish_ = std::move(finish); }
  void OnDone(const engine::Usage& usage) override { done_.set_value(usage); }
  void OnError(const Error& error) override { done_.set_exception(std::make_exception_ptr(error)); }

  std::future<engine::Usage> Done() { return done_.get_future(); }
  const engine::Finish& finish() const { return finish_; }

 private:
  std::promise<engine::Usage> done_;
  engine::Finish finish_;
};

std::unique_ptr<loading::ServedModel> Load(loading::ServePlan plan) {
  loading::LoadProgress progress;
  const LoadWatch watch(progress, kLoadingBarSeconds, LoadingBar());
  return loading::LoadModel(std::move(plan), &progress);
}

[[noreturn]] void RefuseSystem(const std::string& reason) {
  throw Error(ErrorCode::kInvalidArgument, "--system needs a chat template: " + reason,
              "put the text before the prompt");
}

std::string ChatPrompt(const GenerateOptions& options, const loading::ServedText& text) {
  nlohmann::ordered_json messages = nlohmann::ordered_json::array();
  if (!options.system.empty()) {
    messages.push_back({{"role", "system"}, {"content", options.system}});
  }
  messages.push_back({{"role", "user"}, {"content", options.prompt}});
  return text.chat_template->Render({{"messages", messages},
                                     {"add_generation_prompt", true},
                                     {"bos_token", text.bos_token},
                                     {"eos_token", text.eos_token}},
                                    UnixSeconds());
}

decode::SamplingParams Sampling(const GenerateOptions& options,
                                const loading::GenerationDefaults& defaults) {
  decode::SamplingParams sampling;
  sampling.temperature = options.temperature.value_or(defaults.temperature.value_or(1.0F));
  sampling.top_p = options.top_p.value_or(defaults.top_p.value_or(1.0F));
  sampling.top_k = options.top_k.value_or(defaults.top_k.value_or(0));
  sampling.min_p = options.min_p.value_or(defaults.min_p.value_or(0.0F));
  sampling.repetition_penalty = defaults.repetition_penalty.value_or(1.0F);
  sampling.seed = options.seed;
  return sampling;
}

std::vector<int32_t> PromptTokens(const GenerateOptions& options, const loading::ServedText& text) {
  if (!options.raw && text.chat_template) {
    return text.tokenizer->Encode(ChatPrompt(options, text), false);
  }
  if (!options.system.empty()) {
    RefuseSystem(options.load.checkpoint.string() + " has none");
  }
  return text.tokenizer->Encode(options.prompt, true);
}

// How many tokens the answer may have at most. Throws kInvalidArgument if that is none.
int64_t RoomForAnswer(size_t prompt_tokens, const loading::MemoryPlan& memory) {
  const int64_t room = memory.max_context() - static_cast<int64_t>(prompt_tokens);
  if (room < 1) {
    throw Error(ErrorCode::kInvalidArgument,
                "the prompt has " + std::to_string(prompt_tokens) + " tokens, the context " +
                    std::to_string(memory.max_context()),
                memory.max_context() < memory.model_context
                    ? "--max-context may be up to " + std::to_string(memory.model_context)
                    : "shorten it: --max-context cannot be more");
  }
  return room;
}

engine::GenerationRequest MakeRequest(const GenerateOptions& options,
                                      const loading::ServePlan& plan) {
  engine::GenerationRequest request;
  request.id = "terminal";
  request.prompt_tokens = PromptTokens(options, plan.text);
  request.sampling = Sampling(options, plan.text.defaults);
  request.stop.max_tokens =
      std::min(options.max_tokens, RoomForAnswer(request.prompt_tokens.size(), plan.load.memory));
  request.stop.ignore_eos = options.ignore_eos;
  return request;
}

void PrintUsage(const engine::Usage& usage, engine::FinishReason reason) {
  const auto rate = [](int64_t tokens, double seconds) {
    return seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
  };
  std::fprintf(stderr, "[prompt %lld tokens, %.1f tok/s; generated %lld tokens, %.1f tok/s; %s]\n",
               static_cast<long long>(usage.prompt_tokens),
               rate(usage.prompt_tokens, usage.prefill_s),
               static_cast<long long>(usage.completion_tokens),
               rate(usage.completion_tokens, usage.decode_s),
               reason == engine::FinishReason::kLength ? "cut by --max-tokens" : "ended by itself");
  if (usage.experts.misses > 0) {
    const int64_t wanted = usage.experts.hits + usage.experts.misses;
    std::fprintf(stderr,
                 "[experts: %lld of %lld in memory, %.1f MB read, waited %.2f s for them]\n",
                 static_cast<long long>(usage.experts.hits), static_cast<long long>(wanted),
                 static_cast<double>(usage.experts.bytes_read) / 1e6, usage.experts.stall_s);
  }
}

int RunGenerate(GenerateOptions& options) {
  if (options.raw && !options.system.empty()) {
    RefuseSystem("--raw leaves it out");
  }
  if (options.prompt == "-") {
    options.prompt.assign(std::istreambuf_iterator<char>(std::cin), {});
  }
  ConfigureLog(LogLevel::kWarning, LogFormat::kText);
  options.load.checkpoint = formats::ResolveModelPath(options.checkpoint);
  options.load.residency = options.residency.Resolve();
  loading::ServePlan plan = loading::PlanServing(options.load);
  engine::GenerationRequest request = MakeRequest(options, plan);
  const auto model = Load(std::move(plan));

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
    std::fprintf(stdout, "\n");
    PrintUsage(usage, sink->finish().reason);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kCancelled) {
      throw;
    }
    std::fprintf(stderr, "\n[interrupted]\n");
    return kExitInterrupted;
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
  app->add_option("--system", options->system, "A system message before it; needs a chat template");
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
  options->residency.Register(*app, memory, loading::Residency::kFitting, options->load);
  AddMaxContext(*app, options->load.engine.max_context)->group(memory);
  AddMemoryGb(*app, options->load.ceiling_bytes)->group(memory);
  AddThreads(*app, options->load.cpu.threads);
  return {app, [options] { return RunGenerate(*options); }};
}

}  // namespace mach::app
