#include "engine/served_model.h"

#include <algorithm>
#include <utility>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "engine/local_engine.h"
#include "formats/checkpoint.h"
#include "formats/text_config.h"
#include "platform/file.h"

namespace mach::engine {
namespace {

GenerationDefaults ToDefaults(const formats::GenerationConfig& config) {
  GenerationDefaults defaults;
  const auto to_float = [](const std::optional<double>& value) -> std::optional<float> {
    return value ? std::optional<float>(static_cast<float>(*value)) : std::nullopt;
  };
  defaults.temperature = to_float(config.temperature);
  defaults.top_p = to_float(config.top_p);
  defaults.min_p = to_float(config.min_p);
  defaults.repetition_penalty = to_float(config.repetition_penalty);
  if (config.top_k) {
    defaults.top_k = static_cast<int32_t>(*config.top_k);
  }
  if (config.do_sample == false && !config.temperature) {
    defaults.temperature = 0.0F;  // the model's authors ask for greedy decoding
  }
  return defaults;
}

std::unique_ptr<text::Tokenizer> LoadTokenizer(const std::filesystem::path& dir) {
  const std::filesystem::path path = dir / "tokenizer.json";
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) {
    throw NoTokenizer(dir);
  }
  return text::Tokenizer::FromJson(ReadWholeFile(path), path.string());
}

}  // namespace

std::string DirectoryName(const std::filesystem::path& path) {
  const std::filesystem::path whole = std::filesystem::absolute(path).lexically_normal();
  return (whole.has_filename() ? whole : whole.parent_path()).filename().string();
}

ServedModel::ServedModel() = default;
ServedModel::~ServedModel() = default;

std::unique_ptr<ServedModel> LoadModel(LoadPlan plan, const LoadOptions& options,
                                       LoadProgress* progress) {
  const Stopwatch watch;
  auto served = std::make_unique<ServedModel>();
  served->budget = std::make_unique<MemoryBudget>(options.memory_ceiling_bytes);
  served->tokenizer = LoadTokenizer(options.checkpoint);

  const formats::TokenizerConfig tokenizer_config =
      formats::ReadTokenizerConfig(options.checkpoint);
  served->bos_token = tokenizer_config.bos_token;
  served->eos_token = tokenizer_config.eos_token;
  if (tokenizer_config.chat_template) {
    served->chat_template = text::ChatTemplate::Parse(*tokenizer_config.chat_template,
                                                      tokenizer_config.chat_template_source);
  }
  const formats::GenerationConfig generation = formats::ReadGenerationConfig(options.checkpoint);
  served->defaults = ToDefaults(generation);

  RunnableModel runnable = LoadRunnable(std::move(plan), *served->budget, progress);
  served->experts = std::move(runnable.experts);
  const models::ModelShape shape = runnable.model->shape();
  if (served->tokenizer->vocab_size() > shape.vocab_size) {
    throw Error(ErrorCode::kCorruptFile,
                (options.checkpoint / "tokenizer.json").string() + " has ids up to " +
                    std::to_string(served->tokenizer->vocab_size() - 1) +
                    ", but the model's vocab_size is " + std::to_string(shape.vocab_size),
                "tokenizer and weights are of different models");
  }

  const formats::Checkpoint& checkpoint = *runnable.checkpoint;
  const models::ArchInfo* arch = models::FindArch(checkpoint.model_type());
  served->info = {
      .id = options.served_name.empty() ? DirectoryName(options.checkpoint) : options.served_name,
      .arch = arch != nullptr ? std::optional(*arch) : std::nullopt,
      .max_context = runnable.plan.max_context,
      .layers = shape.layers,
      .experts = shape.experts,
      .vocab_size = shape.vocab_size,
      .weight_bytes = runnable.model->ActiveWeightBytes(),
      .prefill_chunk = runnable.plan.prefill_chunk,
      .experts_serving = runnable.serving,
      .threads = runnable.backend->threads(),
      .isa = runnable.backend->isa(),
      .created_unix_s = UnixSeconds()};
  served->engine = MakeLocalEngine(
      std::move(runnable.model), served->experts.get(), *served->tokenizer, *served->budget,
      {.max_context = runnable.plan.max_context,
       .prefill_chunk = runnable.plan.prefill_chunk,
       .max_queue = options.max_queue,
       .end_tokens =
           formats::EndTokenIds(generation, checkpoint.root_config(), checkpoint.config())});
  LogInfo("model loaded", {{"model", served->info.id},
                           {"arch", checkpoint.model_type()},
                           {"weights", checkpoint.QuantisationSummary()},
                           {"prefill_chunk", runnable.plan.prefill_chunk},
                           {"accounted_mib", served->budget->TotalBytes() >> 20},
                           {"predicted_mib", runnable.plan.total_bytes >> 20},
                           {"seconds", watch.ElapsedSeconds()}});
  return served;
}

}  // namespace mach::engine
