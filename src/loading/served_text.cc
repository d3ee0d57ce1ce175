#include "loading/served_text.h"

#include <algorithm>

#include "base/log.h"
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

std::unique_ptr<text::Tokenizer> LoadTokenizer(const std::filesystem::path& dir,
                                               int32_t vocab_size) {
  const std::filesystem::path path = dir / "tokenizer.json";
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) {
    throw NoTokenizer(dir);
  }
  auto tokenizer = text::Tokenizer::FromJson(ReadWholeFile(path), path.string());
  if (tokenizer->vocab_size() > vocab_size) {
    LogWarning(
        "the tokenizer has tokens that the model has no embedding for; prompts with one of "
        "them are refused",
        {{"file", path.string()}, {"first", vocab_size}, {"last", tokenizer->vocab_size() - 1}});
  }
  return tokenizer;
}

// All that anyone says: the configurations name ids, tokenizer_config.json a text, and the tokens
// by which chat models end a turn speak for themselves. Ids past the vocabulary never come.
std::vector<int32_t> EndTokens(const formats::Checkpoint& checkpoint,
                               const formats::GenerationConfig& generation,
                               const std::string& eos_token, const text::Tokenizer& tokenizer,
                               int32_t vocab_size) {
  std::vector<int32_t> ids =
      formats::EndTokenIds(generation, checkpoint.root_config(), checkpoint.config());
  if (const auto id = tokenizer.TokenToId(eos_token); id && !eos_token.empty()) {
    ids.push_back(*id);
  }
  for (const std::string_view token : formats::TurnEndTokens()) {
    if (const auto id = tokenizer.TokenToId(token); id && tokenizer.IsSpecial(*id)) {
      ids.push_back(*id);
    }
  }
  std::erase_if(ids, [vocab_size](int32_t id) { return id >= vocab_size; });
  std::ranges::sort(ids);
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  if (ids.empty()) {
    LogWarning(
        "nothing names a token that ends an answer: answers go on to max_tokens, unless a request "
        "says where to stop",
        {{"model", checkpoint.dir().string()},
         {"cure", "give eos_token in tokenizer_config.json"}});
  }
  return ids;
}

std::vector<std::string> AddedTokens(const text::Tokenizer& tokenizer) {
  std::vector<std::string> texts;
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    if (tokenizer.IsAdded(id)) {
      texts.push_back(tokenizer.TokenBytes(id));
    }
  }
  return texts;
}

}  // namespace

ServedText LoadText(const formats::Checkpoint& checkpoint, const FormatChoice& choice) {
  ServedText text;
  const formats::TokenizerConfig config = formats::ReadTokenizerConfig(checkpoint.dir());
  text.bos_token = config.bos_token;
  text.eos_token = config.eos_token;
  if (config.chat_template) {
    text.chat_template =
        jinja::ChatTemplate::Parse(*config.chat_template, config.chat_template_source);
  }
  text.chat_formats =
      chat::DetectFormats(config.chat_template.value_or(""), checkpoint.model_type());
  text.chat_formats.call = choice.call.value_or(text.chat_formats.call);
  text.chat_formats.reasoning = choice.reasoning.value_or(text.chat_formats.reasoning);
  const formats::GenerationConfig generation = formats::ReadGenerationConfig(checkpoint.dir());
  text.defaults = ToDefaults(generation);
  const int32_t vocab_size = models::ReadModelShape(checkpoint).vocab_size;
  text.tokenizer = LoadTokenizer(checkpoint.dir(), vocab_size);
  text.added_tokens = AddedTokens(*text.tokenizer);
  text.end_tokens =
      EndTokens(checkpoint, generation, config.eos_token, *text.tokenizer, vocab_size);
  return text;
}

std::string EndTokensText(const ServedText& text) {
  std::string list;
  for (const int32_t id : text.end_tokens) {
    list += (list.empty() ? "" : " ") + text.tokenizer->TokenBytes(id);
  }
  return list;
}

Error NoTokenizer(const std::filesystem::path& dir) {
  return {ErrorCode::kNotFound, "no tokenizer.json in " + dir.string(),
          "fetch the model's tokenizer.json into that directory"};
}

}  // namespace mach::loading
