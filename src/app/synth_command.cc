// mach synth: an engine checkpoint of a chosen shape with random weights.
#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "app/command.h"
#include "app/progress_bar.h"
#include "base/error.h"
#include "formats/synthetic.h"

namespace mach::app {
namespace {

std::atomic<bool> g_interrupted{false};

using ShapeField = int64_t formats::SyntheticShape::*;

struct ShapeFlag {
  const char* flag;
  ShapeField field;
  const char* help;
};

constexpr ShapeFlag kShapeFlags[] = {
    {"--layers", &formats::SyntheticShape::layers, "Layers"},
    {"--hidden", &formats::SyntheticShape::hidden_size, "Width of the hidden state"},
    {"--experts", &formats::SyntheticShape::experts, "Experts of each layer"},
    {"--top-k", &formats::SyntheticShape::top_k, "Experts that a token uses in each layer"},
    {"--intermediate", &formats::SyntheticShape::intermediate_size, "Inner width of an expert"},
    {"--shared-intermediate", &formats::SyntheticShape::shared_intermediate_size,
     "Inner width of the shared expert (qwen3_5_moe)"},
    {"--vocab", &formats::SyntheticShape::vocab_size, "Vocabulary"},
    {"--max-context", &formats::SyntheticShape::max_context, "Longest context, tokens"},
    {"--heads", &formats::SyntheticShape::heads, "Query heads"},
    {"--kv-heads", &formats::SyntheticShape::kv_heads, "Key and value heads"},
    {"--head-dim", &formats::SyntheticShape::head_dim, "Width of an attention head"},
};

struct SynthOptions {
  formats::SyntheticOptions write;
  std::string shape;
  // One for each of kShapeFlags: what the flag says instead of the named shape; -1 = not given.
  std::vector<int64_t> overrides = std::vector<int64_t>(std::size(kShapeFlags), -1);
};

int RunSynth(SynthOptions options) {
  options.write.shape = formats::NamedSyntheticShape(options.shape);
  for (size_t i = 0; i < std::size(kShapeFlags); ++i) {
    if (options.overrides[i] >= 0) {
      options.write.shape.*kShapeFlags[i].field = options.overrides[i];
    }
  }
  std::signal(SIGINT, [](int) { g_interrupted.store(true); });
  formats::ConvertResult result;
  {
    ProgressBar bar("writing");
    result = formats::WriteSynthetic(options.write, [&](const formats::ConvertProgress& progress) {
      if (g_interrupted.load()) {
        throw Error(ErrorCode::kCancelled, "interrupted",
                    "run the same command again to go on where it stopped");
      }
      bar.Update(progress.done_bytes, progress.total_bytes);
    });
  }
  const std::string& out = options.write.out.native();
  if (result.already_done) {
    std::printf("%s holds this checkpoint already\n", out.c_str());
    return kExitOk;
  }
  const double bytes = static_cast<double>(result.written_bytes);
  std::printf("%s: %zu files, %.1f MB in %.1f s (%.2f GB/s)\n", out.c_str(), result.files.size(),
              bytes / 1e6, result.elapsed_s, bytes / 1e9 / std::max(result.elapsed_s, 1e-3));
  return kExitOk;
}

}  // namespace

Command AddSynth(CLI::App& root) {
  auto options = std::make_shared<SynthOptions>();
  options->write.tool_version = MACH_VERSION;
  CLI::App* app = root.add_subcommand(
      "synth", "Write a Mixture-of-Experts checkpoint with random weights, to measure with");
  app->footer(
      "The checkpoint loads and serves like a real one; its answers are words without meaning "
      "that\n"
      "end only at max_tokens. The same flags give the same bytes.");
  app->add_option("--shape", options->shape, "Shape to begin with")
      ->required()
      ->check(CLI::IsMember(formats::SyntheticShapeNames()));
  app->add_option("--out", options->write.out, "Directory to write")->required();
  for (size_t i = 0; i < std::size(kShapeFlags); ++i) {
    app->add_option(kShapeFlags[i].flag, options->overrides[i], kShapeFlags[i].help)
        ->check(CLI::NonNegativeNumber);
  }
  app->add_option("--bits", options->write.scheme.bits,
                  "Of all linear layers but routers, which have 8")
      ->check(CLI::IsMember({2, 3, 4, 5, 6, 8}))
      ->capture_default_str();
  app->add_option("--group-size", options->write.scheme.group_size, "Weights that share a scale")
      ->check(CLI::IsMember({32, 64, 128}))
      ->capture_default_str();
  app->add_option("--router-skew", options->write.router_skew,
                  "0: experts about equally popular; S: the popularity of the r-th expert of a "
                  "layer falls as r^-S")
      ->check(CLI::Range(0.0, 4.0))
      ->capture_default_str();
  app->add_option("--seed", options->write.seed, "Of the random weights")->capture_default_str();
  app->add_flag("--force", options->write.force, "Replace an engine checkpoint that is there");
  app->add_option("--threads", options->write.threads, "0 = physical cores")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  return {app, [options] { return RunSynth(*options); }};
}

}  // namespace mach::app
