#include "loading/served_model.h"

#include <utility>

#include "base/clock.h"
#include "base/log.h"
#include "engine/local_engine.h"
#include "formats/checkpoint.h"

namespace mach::loading {

std::string DirectoryName(const std::filesystem::path& path) {
  const std::filesystem::path whole = std::filesystem::absolute(path).lexically_normal();
  return (whole.has_filename() ? whole : whole.parent_path()).filename().string();
}

ServedModel::ServedModel() = default;
ServedModel::~ServedModel() = default;

ServePlan PlanServing(const ModelOptions& options) {
  ServePlan plan;
  plan.load = PlanLoading(options);
  plan.text = LoadText(*plan.load.checkpoint, options.chat_formats);
  return plan;
}

std::unique_ptr<ServedModel> LoadModel(ServePlan plan, LoadProgress* progress) {
  const Stopwatch watch;
  auto served = std::make_unique<ServedModel>();
  static_cast<ServedText&>(*served) = std::move(plan.text);

  RunnableModel runnable = LoadRunnable(std::move(plan.load), progress);
  served->budget = std::move(runnable.budget);
  served->experts = std::move(runnable.experts);
  const formats::Checkpoint& checkpoint = *runnable.checkpoint;
  const ModelOptions& options = runnable.plan.options;
  const ServingPath path = PathOf(options.residency);
  const models::ModelShape shape = runnable.model->shape();
  served->info = {
      .id = options.served_name.empty() ? DirectoryName(checkpoint.dir()) : options.served_name,
      .arch = *models::FindArch(checkpoint.model_type()),  // registered: it was loaded
      .max_context = options.engine.max_context,
      .request_bytes = runnable.plan.request_bytes,
      .layers = shape.layers,
      .experts = shape.experts,
      .vocab_size = shape.vocab_size,
      .weight_bytes = runnable.model->ActiveWeightBytes(),
      .prefill_chunk = options.engine.prefill_chunk,
      .path = path,
      .decode = DecodePathOf(path),
      .experts_serving = runnable.serving,
      .threads = runnable.backend->threads(),
      .isa = runnable.backend->isa(),
      .created_unix_s = UnixSeconds()};
  engine::LocalEngineOptions engine_options = options.engine;
  engine_options.end_tokens = served->end_tokens;
  served->engine =
      engine::MakeLocalEngine(std::move(runnable.model), served->experts.get(), *served->tokenizer,
                              *served->budget, std::move(engine_options));
  LogInfo("model loaded", {{"model", served->info.id},
                           {"arch", checkpoint.model_type()},
                           {"weights", checkpoint.QuantisationSummary()},
                           {"end_tokens", EndTokensText(*served)},
                           {"prefill_chunk", options.engine.prefill_chunk},
                           {"accounted_mib", served->budget->TotalBytes() >> 20},
                           {"predicted_mib", runnable.plan.total_bytes >> 20},
                           {"seconds", watch.ElapsedSeconds()}});
  return served;
}

}  // namespace mach::loading
