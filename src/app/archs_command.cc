// mach archs: the architecture registry.
#include <cstdio>
#include <memory>

#include <nlohmann/json.hpp>

#include "app/command.h"
#include "models/registry.h"
#include "server/reports.h"

namespace mach::app {
namespace {

struct ArchsOptions {
  bool json = false;
};

int RunArchs(const ArchsOptions& options) {
  if (options.json) {
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (const models::ArchInfo& info : models::Registry()) {
      list.push_back(server::ArchJson(info));
    }
    std::printf("%s\n", list.dump(2).c_str());
    return kExitOk;
  }
  std::printf("%-14s %-14s %-12s %-10s %s\n", "model_type", "activation", "kv_cache", "specdec",
              "runs on");
  for (const models::ArchInfo& info : models::Registry()) {
    std::printf("%-14s %-14s %-12s %-10s %s\n", info.model_type.c_str(),
                info.swiglu_variant.c_str(), info.kv_cache_kind.c_str(), info.specdec_kind.c_str(),
                info.dense ? "--backend openai" : "--streaming, --no-streaming, --backend openai");
  }
  return kExitOk;
}

}  // namespace

Command AddArchs(CLI::App& root) {
  auto options = std::make_shared<ArchsOptions>();
  CLI::App* app = root.add_subcommand("archs", "List the architectures that can be served");
  app->add_flag("--json", options->json, "Print the `arch` objects of /v1/capabilities");
  return {app, [options] { return RunArchs(*options); }};
}

}  // namespace mach::app
