// mach synth: an engine checkpoint of a chosen shape with random weights.
#include <algorithm>
#include <cstdio>
#include <iomanip>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "app/command.h"
#include "app/common_flags.h"
#include "app/interrupt.h"
#include "app/progress_bar.h"
#include "base/error.h"
#include "convert/synthetic.h"

namespace mach::app {
namespace {

struct SynthOptions {
  convert::SyntheticOptions write;
  std::string shape;
  std::string family;  // empty = that of the named shape
  // One for each of convert::SyntheticFlags: what the flag says instead of the named shape.
  std::vector<std::optional<int64_t>> overrides =
      std::vector<std::optional<int64_t>>(convert::SyntheticFlags().size());
};

std::vector<std::string> Families() {
  return {formats::MoeFamilyName(formats::MoeFamily::kQwen35Moe),
          formats::MoeFamilyName(formats::MoeFamily::kQwen3Moe)};
}

convert::SyntheticShape WantedShape(const SynthOptions& options) {
  convert::SyntheticShape shape = convert::NamedSyntheticShape(options.shape);
  if (!options.family.empty()) {
    shape.family = *formats::FindMoeFamily(options.family);
  }
  for (size_t i = 0; i < options.overrides.size(); ++i) {
    const convert::SyntheticFlag& flag = convert::SyntheticFlags()[i];
    if (!options.overrides[i]) {
      continue;
    }
    if (flag.hybrid && !shape.is_hybrid()) {
      throw Error(
          ErrorCode::kInvalidArgument,
          std::string(flag.flag) + " means nothing for " + formats::MoeFamilyName(shape.family),
          "leave it out, or add --family " +
              formats::MoeFamilyName(formats::MoeFamily::kQwen35Moe));
    }
    shape.*flag.field = *options.overrides[i];
  }
  return shape;
}

// A line for each named shape.
std::string ListShapes() {
  std::ostringstream text;
  text << "Shapes, and their size on disk with the default --bits:\n";
  for (const std::string& name : convert::SyntheticShapeNames()) {
    const convert::SyntheticShape shape = convert::NamedSyntheticShape(name);
    const double bytes = static_cast<double>(convert::SyntheticBytes(shape, {}));
    text << "  " << std::left << std::setw(14) << name << std::right << std::setw(7) << std::fixed
         << std::setprecision(bytes < 1e8 ? 3 : 1) << bytes / 1e9 << " GB  "
         << formats::MoeFamilyName(shape.family) << ", " << shape.layers << " layers of "
         << shape.experts << " experts, hidden " << shape.hidden_size << "\n";
  }
  return text.str();
}

int RunSynth(SynthOptions options) {
  options.write.shape = WantedShape(options);
  CatchInterrupts();
  convert::ConvertResult result;
  {
    ProgressBar bar("writing");
    result = convert::WriteSynthetic(options.write, [&](const convert::ConvertProgress& progress) {
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
  // A function, so that only --help computes sizes.
  app->footer([] {
    return ListShapes() +
           "The checkpoint loads and serves like a real one; its answers are words without "
           "meaning that\nend only at max_tokens. The same flags give the same bytes.";
  });
  app->add_option("--shape", options->shape, "Shape to begin with")
      ->required()
      ->check(CLI::IsMember(convert::SyntheticShapeNames()));
  app->add_option("--out", options->write.out, "Directory to write")->required();
  app->add_option("--family", options->family, "Of models; default: that of the shape")
      ->check(CLI::IsMember(Families()));
  for (size_t i = 0; i < options->overrides.size(); ++i) {
    const convert::SyntheticFlag& flag = convert::SyntheticFlags()[i];
    app->add_option(flag.flag, options->overrides[i], flag.help);
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
  AddThreads(*app, options->write.threads);
  return {app, [options] { return RunSynth(*options); }};
}

}  // namespace mach::app
