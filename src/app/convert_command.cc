// mach convert: a Hugging Face, MLX or GGUF model to an engine checkpoint.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>

#include "app/command.h"
#include "app/common_flags.h"
#include "app/interrupt.h"
#include "app/progress_bar.h"
#include "convert/convert.h"
#include "formats/hub.h"
#include "loading/load_plan.h"

namespace mach::app {
namespace {

void PrintList(const char* title, const std::vector<std::string>& names) {
  constexpr size_t kShown = 5;
  if (names.empty()) {
    return;
  }
  std::printf("%s (%zu):", title, names.size());
  for (size_t i = 0; i < std::min(names.size(), kShown); ++i) {
    std::printf(" %s", names[i].c_str());
  }
  std::printf("%s\n", names.size() > kShown ? " ..." : "");
}

int RunConvert(const convert::ConvertOptions& options) {
  CatchInterrupts();
  convert::ConvertResult result;
  {
    ProgressBar bar("converting");
    result = convert::Convert(options, [&](const convert::ConvertProgress& progress) {
      ThrowIfInterrupted();
      bar.Update(progress.done_bytes, progress.total_bytes);
    });
  }
  if (result.already_done) {
    std::printf("%s is already converted from this source\n", options.out.c_str());
    return kExitOk;
  }
  PrintList("requantised", result.requantised);
  PrintList("left out", result.skipped);
  for (const auto& [reason, names] : result.skipped_tensors) {
    PrintList(("left out: " + reason).c_str(), names);
  }
  if (result.resumed_files > 0) {
    std::printf("kept %d files of an interrupted conversion\n", result.resumed_files);
  }
  std::printf("%s: %zu files, %.1f MB in %.1f s\n", options.out.c_str(), result.files.size(),
              static_cast<double>(result.written_bytes) / 1e6, result.elapsed_s);
  return kExitOk;
}

}  // namespace

Command AddConvert(CLI::App& root) {
  auto options = std::make_shared<convert::ConvertOptions>();
  auto source = std::make_shared<std::string>();
  options->tool_version = MACH_VERSION;
  options->check_output = loading::RequireLoadable;
  CLI::App* app = root.add_subcommand("convert", "Convert a model to an engine checkpoint");
  app->footer(
      "Lossless unless --bits says otherwise: directories of dense models are copied and "
      "verified;\n"
      "the experts of Mixture-of-Experts models go to expert_sidecar/; of GGUF, F32, F16, BF16,\n"
      "Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K and Q5_K keep their exact values. What cannot be loaded\n"
      "afterwards is not published. An interrupted conversion goes on where it stopped when the\n"
      "same command runs again.");
  app->add_option("source", *source,
                  "Hugging Face or MLX directory, .gguf file, or a hub id in the local cache")
      ->required();
  app->add_option("--out", options->out, "Directory to write")->required();
  app->add_option(
         "--bits", options->bits,
         "Quantise to 2, 3, 4, 5, 6 or 8 bits: all linear layers and experts of a directory "
         "(routers keep 8), of a GGUF file only what has no lossless form")
      ->check(CLI::IsMember({2, 3, 4, 5, 6, 8}));
  app->add_option("--group-size", options->group_size, "Weights that share a scale: 32, 64 or 128")
      ->check(CLI::IsMember({32, 64, 128}))
      ->capture_default_str();
  app->add_flag("--requantise-all", options->requantise_all,
                "GGUF: quantise every linear layer to --bits, also those with a lossless form");
  app->add_flag("--force", options->force, "Replace an engine checkpoint that is already there");
  AddThreads(*app, options->threads);
  return {app, [options, source] {
            // Absolute, because mach.json keeps it for whoever has to convert again.
            options->source = std::filesystem::absolute(formats::ResolveModelPath(*source));
            return RunConvert(*options);
          }};
}

}  // namespace mach::app
