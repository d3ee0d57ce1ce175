// mach synth: an engine checkpoint of a chosen shape with random weights.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "app/command.h"
#include "app/interrupt.h"
#include "app/progress_bar.h"
#include "formats/synthetic.h"

namespace mach::app {
namespace {

struct SynthOptions {
  formats::SyntheticOptions write;
  std::string shape;
  // One for each of formats::kSyntheticFlags: what the flag says instead of the named shape; -1 =
  // not given.
  std::vector<int64_t> overrides = std::vector<int64_t>(std::size(formats::kSyntheticFlags), -1);
};

int RunSynth(SynthOptions options) {
  options.write.shape = formats::NamedSyntheticShape(options.shape);
  for (size_t i = 0; i < std::size(formats::kSyntheticFlags); ++i) {
    if (options.overrides[i] >= 0) {
      options.write.shape.*formats::kSyntheticFlags[i].field = options.overrides[i];
    }
  }
  CatchInterrupts();
  formats::ConvertResult result;
  {
    ProgressBar bar("writing");
    result = formats::WriteSynthetic(options.write, [&](const formats::ConvertProgress& progress) {
      ThrowIfInterrupted();
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
  for (size_t i = 0; i < std::size(formats::kSyntheticFlags); ++i) {
    app->add_option(formats::kSyntheticFlags[i].flag, options->overrides[i],
                    formats::kSyntheticFlags[i].help)
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
