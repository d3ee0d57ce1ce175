// mach models: checkpoints on this machine.
#include <cstdio>
#include <filesystem>
#include <memory>
#include <vector>

#include <nlohmann/json.hpp>

#include "app/command.h"
#include "formats/hub.h"
#include "models/registry.h"

namespace mach::app {
namespace {

struct ModelsOptions {
  std::vector<std::filesystem::path> directories;
  bool json = false;
};

int RunModels(const ModelsOptions& options) {
  const std::vector<formats::LocalCheckpoint> found = formats::ListCheckpoints(options.directories);
  if (options.json) {
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (const formats::LocalCheckpoint& entry : found) {
      list.push_back({{"name", entry.name},
                      {"path", entry.path.string()},
                      {"model_type", entry.model_type},
                      {"quantisation", entry.quantisation},
                      {"size_bytes", entry.size_bytes},
                      {"supported", models::FindArch(entry.model_type) != nullptr},
                      {"tokenizer", entry.has_tokenizer},
                      {"problem", entry.problem}});
    }
    std::printf("%s\n",
                list.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace).c_str());
    return kExitOk;
  }
  if (found.empty()) {
    std::printf("No checkpoints found. Looked in:\n");
    for (const std::filesystem::path& dir : formats::HubCacheDirs()) {
      std::printf("  %s\n", dir.c_str());
    }
    for (const std::filesystem::path& dir : options.directories) {
      std::printf("  %s\n", dir.c_str());
    }
    return kExitOk;
  }
  std::printf("%-44s %-12s %-26s %9s  %s\n", "name", "model_type", "weights", "size", "status");
  for (const formats::LocalCheckpoint& entry : found) {
    const bool supported = models::FindArch(entry.model_type) != nullptr;
    const std::string status = !entry.problem.empty() ? entry.problem
                               : !supported           ? "architecture not supported"
                               : !entry.has_tokenizer ? "no tokenizer.json, cannot be served"
                                                      : "ready";
    std::printf("%-44s %-12s %-26s %6.0f MB  %s\n", entry.name.c_str(), entry.model_type.c_str(),
                entry.quantisation.c_str(), static_cast<double>(entry.size_bytes) / 1e6,
                status.c_str());
  }
  return kExitOk;
}

}  // namespace

Command AddModels(CLI::App& root) {
  auto options = std::make_shared<ModelsOptions>();
  CLI::App* app = root.add_subcommand(
      "models", "List checkpoints in the local Hugging Face cache and in given directories");
  app->add_option("dir", options->directories,
                  "Checkpoints, or directories that hold some (default: ./models if it is there)");
  app->add_flag("--json", options->json, "Print JSON");
  return {app, [options] {
            std::error_code ignored;
            if (options->directories.empty() && std::filesystem::is_directory("models", ignored)) {
              options->directories.emplace_back("models");
            }
            return RunModels(*options);
          }};
}

}  // namespace mach::app
