#include "loading/served_text.h"

#include "formats/text_config.h"
#include "models/loader.h"
#include "platform/file.h"

namespace mach::loading {
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

std::unique_ptr<text::Tokenizer> LoadTokenizer(const formats::Checkpoint& checkpoint) {
  const std::filesystem::path path = checkpoint.dir() / "tokenizer.json";
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) {
    throw NoTokenizer(checkpoint.dir());
  }
  auto tokenizer = text::Tokenizer::FromJson(ReadWholeFile(path), path.string());
  const int32_t vocab_size = models::ReadModelShape(checkpoint).vocab_size;
  if (tokenizer->vocab_size() > vocab_size) {
    throw Error(ErrorCode::kCorruptFile,
                path.string() + " has ids up to " + std::to_string(tokenizer->vocab_size() - 1) +
                    ", but the model's vocab_size is " + std::to_string(vocab_size),
                "tokenizer and weights are of different models");
  }
  return tokenizer;
}

}  // namespace

ServedText LoadText(const formats::Checkpoint& checkpoint) {
  ServedText text;
  const formats::TokenizerConfig config = formats::ReadTokenizerConfig(checkpoint.dir());
  text.bos_token = config.bos_token;
  text.eos_token = config.eos_token;
  if (config.chat_template) {
    text.chat_template =
        jinja::ChatTemplate::Parse(*config.chat_template, config.chat_template_source);
  }
  const formats::GenerationConfig generation = formats::ReadGenerationConfig(checkpoint.dir());
  text.defaults = ToDefaults(generation);
  text.end_tokens = formats::EndTokenIds(generation, checkpoint.root_config(), checkpoint.config());
  text.tokenizer = LoadTokenizer(checkpoint);
  return text;
}

Error NoTokenizer(const std::filesystem::path& dir) {
  return {ErrorCode::kNotFound, "no tokenizer.json in " + dir.string(),
          "fetch the model's tokenizer.json into that directory"};
}

}  // namespace mach::loading
