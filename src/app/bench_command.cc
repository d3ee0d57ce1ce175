// mach bench: prefill and decode speed of a checkpoint, straight on the model, without HTTP.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "app/bandwidth_probe.h"
#include "app/command.h"
#include "app/common_flags.h"
#include "app/load_watch.h"
#include "app/residency_flags.h"
#include "base/clock.h"
#include "engine/engine.h"
#include "engine/expert_use.h"
#include "formats/hub.h"
#include "loading/runnable_model.h"
#include "platform/process_memory.h"

namespace mach::app {
namespace {

struct BenchOptions {
  std::string checkpoint;
  int64_t prompt_tokens = 512;
  int64_t generate_tokens = 128;
  int64_t depth_tokens = 0;
  int repeat = 5;
  loading::ModelOptions load;
  ResidencyFlags residency;
  bool json = false;
  bool probe = true;
};

struct Spread {
  double median = 0;
  double min = 0;
  double max = 0;
};

Spread SpreadOf(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return {values[values.size() / 2], values.front(), values.back()};
}

struct BenchResult {
  std::vector<double> prefill_tok_s;
  std::vector<double> decode_tok_s;
  // Of all measured decoding, and of all measured prefill.
  double decode_s = 0;
  engine::ExpertCost decode_experts;
  double prefill_s = 0;
  engine::ExpertCost prefill_experts;
};

// A fixed, varied sequence: llama-bench too feeds arbitrary ids.
std::vector<int32_t> SomeTokens(int64_t count, int32_t vocab_size) {
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  uint64_t state = 1;
  for (int32_t& token : tokens) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    token = static_cast<int32_t>((state >> 33) % static_cast<uint64_t>(vocab_size));
  }
  return tokens;
}

class Bench {
 public:
  Bench(const loading::RunnableModel& runnable, const BenchOptions& options)
      : model_(*runnable.model),
        experts_(runnable.experts.get()),
        chunk_(static_cast<size_t>(runnable.plan.prefill_chunk())),
        options_(options),
        state_(model_.NewSequence()) {}

  BenchResult Run() {
    BenchResult result;
    for (int run = -1; run < options_.repeat; ++run) {  // run -1 warms up
      const engine::ExpertCost start = ExpertNumbers();
      const double prefill_s = TimePrefill();
      const engine::ExpertCost between = ExpertNumbers();
      PrepareDecode();
      const engine::ExpertCost prepared = ExpertNumbers();
      const double decode_s = TimeDecode();
      if (run < 0) {
        continue;
      }
      if (prefill_s > 0) {
        result.prefill_tok_s.push_back(static_cast<double>(options_.prompt_tokens) / prefill_s);
        result.prefill_s += prefill_s;
        result.prefill_experts += between - start;
      }
      if (decode_s > 0) {
        result.decode_tok_s.push_back(static_cast<double>(options_.generate_tokens) / decode_s);
        result.decode_s += decode_s;
        result.decode_experts += ExpertNumbers() - prepared;
      }
    }
    return result;
  }

 private:
  engine::ExpertCost ExpertNumbers() const {
    return experts_ != nullptr ? engine::ExpertCost::Of(experts_->Stats()) : engine::ExpertCost{};
  }

  void Feed(std::span<const int32_t> tokens, int64_t logit_rows) {
    for (size_t at = 0; at < tokens.size();) {
      const size_t count = std::min(tokens.size() - at, chunk_);
      const size_t next = std::min(tokens.size() - at - count, chunk_);
      const backend::StepScope scope(model_.backend());
      const models::SequenceRows rows{.state = state_.get(),
                                      .tokens = tokens.subspan(at, count),
                                      .logit_rows = next == 0 ? logit_rows : 0};
      state_->Prepare(static_cast<int64_t>(count), /*record=*/false);
      model_.Forward({.batch = std::span(&rows, 1),
                      .use = engine::ExpertUseOfChunk(static_cast<int64_t>(count),
                                                      static_cast<int64_t>(next))});
      at += count;
    }
  }

  // Seconds; 0 if there is nothing to do.
  double TimePrefill() {
    if (options_.prompt_tokens == 0) {
      return 0;
    }
    const auto tokens = SomeTokens(options_.prompt_tokens, model_.shape().vocab_size);
    state_->Truncate(0);
    const Stopwatch watch;
    Feed(tokens, 1);
    return watch.ElapsedSeconds();
  }

  void PrepareDecode() {
    state_->Truncate(0);
    if (options_.generate_tokens > 0 && options_.depth_tokens > 0) {
      Feed(SomeTokens(options_.depth_tokens, model_.shape().vocab_size), 0);
    }
  }

  double TimeDecode() {
    if (options_.generate_tokens == 0) {
      return 0;
    }
    int32_t token = 1;
    const Stopwatch watch;
    for (int64_t i = 0; i < options_.generate_tokens; ++i) {
      const backend::StepScope scope(model_.backend());
      const models::SequenceRows rows{.state = state_.get(), .tokens = std::span(&token, 1)};
      state_->Prepare(1, /*record=*/false);
      const auto logits = model_.backend().Read(model_.Forward({.batch = std::span(&rows, 1)}));
      // What greedy sampling would do, so that its cost is in the figure.
      token = static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
    }
    return watch.ElapsedSeconds();
  }

  models::Model& model_;
  const experts::ExpertStore* experts_;  // null for dense models
  size_t chunk_;
  const BenchOptions& options_;
  std::unique_ptr<state::SequenceState> state_;
};

nlohmann::ordered_json SpreadJson(const std::vector<double>& values) {
  if (values.empty()) {
    return nullptr;
  }
  const Spread spread = SpreadOf(values);
  return {{"median", spread.median}, {"min", spread.min}, {"max", spread.max}, {"runs", values}};
}

void PrintRow(const char* name, const std::vector<double>& values) {
  if (!values.empty()) {
    const Spread spread = SpreadOf(values);
    std::printf("%-22s %10.2f %10.2f %10.2f  tok/s\n", name, spread.median, spread.min, spread.max);
  }
}

// Hit rate, bytes read per token and share of the time that was spent waiting for experts.
nlohmann::ordered_json ExpertJson(const engine::ExpertCost& usage, int64_t tokens, double seconds) {
  const auto asked = static_cast<double>(usage.hits + usage.misses);
  const auto count = static_cast<double>(tokens);
  return {{"hits", usage.hits},
          {"misses", usage.misses},
          {"hit_rate", asked > 0 ? static_cast<double>(usage.hits) / asked : 0},
          {"bytes_read_per_token", tokens > 0 ? static_cast<double>(usage.bytes_read) / count : 0},
          {"stall_share", seconds > 0 ? usage.stall_s / seconds : 0}};
}

void PrintExperts(const char* name, const nlohmann::ordered_json& experts) {
  std::printf(
      "experts in %-11s %10.1f %% hits, %.1f MB read per token, %.1f %% of the time waited\n", name,
      100 * experts["hit_rate"].get<double>(), experts["bytes_read_per_token"].get<double>() / 1e6,
      100 * experts["stall_share"].get<double>());
}

nlohmann::ordered_json RoutingJson(const experts::RoutingSummary& routing) {
  return {{"steps", routing.steps},       {"experts", routing.experts},
          {"distinct", routing.distinct}, {"effective", routing.effective},
          {"top", routing.top},           {"repeated", routing.repeated}};
}

void PrintRouting(const experts::RoutingSummary& routing) {
  std::printf(
      "routing of %-11s %10.0f of %d experts of a layer used, as diverse as %.0f equally "
      "popular ones;\n%35sthe most popular in %.0f %% of the steps; %.0f %% were used by "
      "the step before\n",
      (std::to_string(routing.steps) + " steps").c_str(), routing.distinct, routing.experts,
      routing.effective, "", 100 * routing.top, 100 * routing.repeated);
}

loading::RunnableModel Load(const loading::ModelOptions& options) {
  loading::LoadPlan plan = loading::PlanLoading(options);
  loading::LoadProgress progress;
  const LoadWatch watch(progress, kLoadingBarSeconds, LoadingBar());
  return loading::LoadRunnable(std::move(plan), &progress);
}

// What is printed, in one form or the other.
struct Report {
  const BenchOptions& options;
  const loading::RunnableModel& runnable;
  const BenchResult& result;
  double load_s = 0;
  std::optional<experts::RoutingSummary> routing;
  uint64_t peak_rss_bytes = 0;
  double probe_gb_s = 0;  // 0 = not measured

  uint64_t token_bytes() const { return runnable.model->ActiveWeightBytes(); }
  double achieved_gb_s() const {
    const auto& runs = result.decode_tok_s;
    const double decode = runs.empty() ? 0 : SpreadOf(runs).median;
    return decode * static_cast<double>(token_bytes()) / 1e9;
  }
  const char* residency() const {
    return !runnable.serving ? "none" : runnable.serving->streaming ? "streaming" : "resident";
  }
  nlohmann::ordered_json PrefillExperts() const {
    return ExpertJson(result.prefill_experts, options.repeat * options.prompt_tokens,
                      result.prefill_s);
  }
  nlohmann::ordered_json DecodeExperts() const {
    return ExpertJson(result.decode_experts, options.repeat * options.generate_tokens,
                      result.decode_s);
  }
};

void PrintJson(const Report& report) {
  const loading::RunnableModel& runnable = report.runnable;
  const BenchOptions& options = report.options;
  const double probe = report.probe_gb_s;
  const nlohmann::ordered_json json = {
      {"checkpoint", options.checkpoint},
      {"model_type", runnable.checkpoint->model_type()},
      {"weights", runnable.checkpoint->QuantisationSummary()},
      {"isa", runnable.backend->isa()},
      {"threads", runnable.backend->threads()},
      {"prompt_tokens", options.prompt_tokens},
      {"generate_tokens", options.generate_tokens},
      {"depth_tokens", options.depth_tokens},
      {"prefill_chunk", runnable.plan.prefill_chunk()},
      {"expert_residency", report.residency()},
      {"expert_cache_bytes", runnable.plan.bank_bytes()},
      {"load_s", report.load_s},
      {"prefill_tok_s", SpreadJson(report.result.prefill_tok_s)},
      {"decode_tok_s", SpreadJson(report.result.decode_tok_s)},
      {"weight_bytes_per_token", report.token_bytes()},
      {"decode_weight_gb_s", report.achieved_gb_s()},
      {"probe_gb_s", probe},
      {"bandwidth_share", probe > 0 ? report.achieved_gb_s() / probe : 0},
      {"prefill_experts", report.PrefillExperts()},
      {"decode_experts", report.DecodeExperts()},
      {"decode_routing", report.routing ? RoutingJson(*report.routing) : nlohmann::ordered_json()},
      {"accounted_bytes", runnable.budget->TotalBytes()},
      {"predicted_bytes", runnable.plan.total_bytes},
      {"peak_rss_bytes", report.peak_rss_bytes}};
  std::printf("%s\n",
              json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace).c_str());
}

void PrintHeader(const Report& report) {
  const loading::RunnableModel& runnable = report.runnable;
  std::printf("%s  %s  %s  %d threads  %s", report.options.checkpoint.c_str(),
              runnable.checkpoint->model_type().c_str(),
              runnable.checkpoint->QuantisationSummary().c_str(), runnable.backend->threads(),
              runnable.backend->isa().c_str());
  if (runnable.serving) {
    std::printf("  experts %s", report.residency());
    if (runnable.serving->streaming) {
      std::printf(" (bank %.2f GB, %s, %s%s)",
                  static_cast<double>(runnable.plan.bank_bytes()) / 1e9,
                  runnable.serving->policy.c_str(), runnable.serving->io.c_str(),
                  runnable.serving->prefetch ? ", prefetch" : "");
    }
  }
  std::printf("\n");
}

void PrintText(const Report& report) {
  const loading::RunnableModel& runnable = report.runnable;
  const BenchOptions& options = report.options;
  PrintHeader(report);
  std::printf("%-22s %10s %10s %10s\n", "", "median", "min", "max");
  PrintRow(("prefill " + std::to_string(options.prompt_tokens)).c_str(),
           report.result.prefill_tok_s);
  PrintRow(("decode " + std::to_string(options.generate_tokens) + " @ " +
            std::to_string(options.depth_tokens))
               .c_str(),
           report.result.decode_tok_s);
  std::printf("weights read           %10.1f MB/token\n",
              static_cast<double>(report.token_bytes()) / 1e6);
  std::printf("achieved in decode     %10.1f GB/s", report.achieved_gb_s());
  if (report.probe_gb_s > 0) {
    std::printf(", %.0f %% of the %.1f GB/s that %d threads read from memory",
                100 * report.achieved_gb_s() / report.probe_gb_s, report.probe_gb_s,
                runnable.backend->threads());
  }
  std::printf("\n");
  if (runnable.serving && runnable.serving->streaming) {
    PrintExperts("prefill", report.PrefillExperts());
    PrintExperts("decode", report.DecodeExperts());
  }
  if (report.routing && report.routing->steps > 0) {
    PrintRouting(*report.routing);
  }
  std::printf("load                   %10.2f s\n", report.load_s);
  std::printf("peak RSS               %10.1f MB (accounted %.1f MB, predicted %.1f MB)\n",
              static_cast<double>(report.peak_rss_bytes) / 1e6,
              static_cast<double>(runnable.budget->TotalBytes()) / 1e6,
              static_cast<double>(runnable.plan.total_bytes) / 1e6);
}

int RunBench(BenchOptions& options) {
  options.load.checkpoint = formats::ResolveModelPath(options.checkpoint);
  options.load.engine.max_context =
      std::max(options.prompt_tokens, options.depth_tokens + options.generate_tokens);
  options.load.residency = options.residency.Resolve();
  // A measurement neither profits from what served before nor decides what is served next.
  options.load.keep_heat = false;
  options.load.observe_routing = true;
  const Stopwatch load_watch;
  const loading::RunnableModel runnable = Load(options.load);
  const double load_s = load_watch.ElapsedSeconds();
  const BenchResult result = Bench(runnable, options).Run();
  Report report{.options = options, .runnable = runnable, .result = result, .load_s = load_s};
  report.routing = runnable.experts ? runnable.experts->Stats().routing : std::nullopt;
  report.peak_rss_bytes = ReadProcessMemory().peak_rss_bytes;
  // After reading the peak: the probe takes memory itself.
  report.probe_gb_s = options.probe ? ProbeReadBandwidth(runnable.backend->threads()) : 0;
  if (options.json) {
    PrintJson(report);
  } else {
    PrintText(report);
  }
  return kExitOk;
}

}  // namespace

Command AddBench(CLI::App& root) {
  auto options = std::make_shared<BenchOptions>();
  CLI::App* app = root.add_subcommand("bench", "Measure prefill and decode speed of a checkpoint");
  app->add_option("checkpoint", options->checkpoint, "Checkpoint directory or cached hub id")
      ->required();
  app->add_option("--prompt-tokens", options->prompt_tokens, "Tokens to prefill; 0 skips it")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app->add_option("--generate-tokens", options->generate_tokens, "Tokens to decode; 0 skips it")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app->add_option("--depth-tokens", options->depth_tokens, "Context before decoding begins")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app->add_option("--repeat", options->repeat, "Measured runs, after one to warm up")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  const auto* memory = "Memory";
  options->residency.Register(*app, memory, loading::Residency::kFitting, options->load);
  AddMemoryGb(*app, options->load.ceiling_bytes)->group(memory);
  AddThreads(*app, options->load.cpu.threads);
  app->add_flag("--probe,!--no-probe", options->probe,
                "Measure memory bandwidth afterwards, to give decode as a share of it (default)");
  app->add_flag("--json", options->json, "Print JSON");
  return {app, [options] { return RunBench(*options); }};
}

}  // namespace mach::app
