#include "formats/text_config.h"

#include <algorithm>
#include <array>
#include <limits>

#include <nlohmann/json.hpp>

#include "formats/config.h"
#include "platform/file.h"

namespace mach::formats {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int64_t kMaxTokenId = std::numeric_limits<int32_t>::max();
constexpr uint64_t kMaxTemplateBytes = 16ULL << 20;

bool Exists(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

std::optional<int32_t> TokenId(const ConfigReader& config, std::string_view field) {
  // -1 and lists occur in the wild; only the first non-negative id can be a single token.
  const auto ids = config.OptionalIntOrArray(field, -1, kMaxTokenId);
  if (!ids || ids->empty() || ids->front() < 0) {
    return std::nullopt;
  }
  return static_cast<int32_t>(ids->front());
}

std::vector<int32_t> TokenIds(const ConfigReader& config, std::string_view field) {
  std::vector<int32_t> result;
  for (const int64_t id :
       config.OptionalIntOrArray(field, -1, kMaxTokenId).value_or(std::vector<int64_t>{})) {
    if (id >= 0) {
      result.push_back(static_cast<int32_t>(id));
    }
  }
  return result;
}

// A token is a string, or an object that holds it as `content`.
std::string TokenText(const ConfigReader& config, std::string_view field) {
  if (!config.Has(field)) {
    return "";
  }
  if (config.Node().find(field)->is_object()) {
    return config.RequireObject(field).RequireString("content");
  }
  return config.RequireString(field);
}

// As TokenText, for what several files may say: the first that does.
void TakeToken(const ConfigReader& config, std::string_view field, std::string& out) {
  if (out.empty()) {
    out = TokenText(config, field);
  }
}

void TakeTokens(const ConfigReader& config, TokenizerConfig& out) {
  TakeToken(config, "bos_token", out.bos_token);
  TakeToken(config, "eos_token", out.eos_token);
  TakeToken(config, "unk_token", out.unk_token);
  TakeToken(config, "pad_token", out.pad_token);
}

// Above zero: what 0 would make of a text, no sampler can say.
std::optional<double> PositiveFloat(const ConfigReader& config, std::string_view field,
                                    double max = ConfigReader::kFloatMax) {
  const auto value = config.OptionalFloat(field, 0, max);
  if (value == 0.0) {
    config.Fail(field, "a number above 0");
  }
  return value;
}

// A template is a string, or a list of {name, template}.
void TakeTemplate(const ConfigReader& config, TokenizerConfig& out) {
  if (!config.Has("chat_template")) {
    return;
  }
  const json& value = *config.Node().find("chat_template");
  std::map<std::string, std::string> named;
  if (value.is_string()) {
    named["default"] = value.get<std::string>();
  } else {
    for (const json& entry : value.is_array() ? value : json::array({json()})) {
      const bool ok = entry.is_object() && entry.contains("name") && entry["name"].is_string() &&
                      entry.contains("template") && entry["template"].is_string();
      if (!ok) {
        config.Fail("chat_template", "a string or a list of {\"name\", \"template\"}");
      }
      named[entry["name"].get<std::string>()] = entry["template"].get<std::string>();
    }
  }
  const auto chosen = named.find("default");
  if (chosen != named.end()) {
    out.chat_template = chosen->second;
    out.chat_template_source = config.file();
    named.erase(chosen);
  }
  out.named_templates = std::move(named);
}

}  // namespace

GenerationConfig ReadGenerationConfig(const fs::path& dir) {
  GenerationConfig result;
  const fs::path path = dir / "generation_config.json";
  if (!Exists(path)) {
    return result;
  }
  const ConfigReader config = ConfigReader::Load(path);
  result.do_sample = config.OptionalBool("do_sample");
  result.temperature = config.OptionalFloat("temperature", 0);
  result.top_p = PositiveFloat(config, "top_p", 1);
  result.min_p = config.OptionalFloat("min_p", 0, 1);
  result.top_k = config.OptionalInt("top_k", -1, kMaxTokenId);
  result.repetition_penalty = PositiveFloat(config, "repetition_penalty");
  result.max_new_tokens = config.OptionalInt("max_new_tokens", 0);
  result.max_length = config.OptionalInt("max_length", 0);
  result.bos_token_id = TokenId(config, "bos_token_id");
  result.pad_token_id = TokenId(config, "pad_token_id");
  result.eos_token_ids = TokenIds(config, "eos_token_id");
  return result;
}

TokenizerConfig ReadTokenizerConfig(const fs::path& dir) {
  TokenizerConfig result;
  if (Exists(dir / "chat_template.json")) {
    TakeTemplate(ConfigReader::Load(dir / "chat_template.json"), result);
  }
  if (Exists(dir / "tokenizer_config.json")) {
    const ConfigReader config = ConfigReader::Load(dir / "tokenizer_config.json");
    TakeTokens(config, result);
    result.add_bos_token = config.OptionalBool("add_bos_token");
    result.add_eos_token = config.OptionalBool("add_eos_token");
    const auto limit = config.OptionalFloat("model_max_length", 0);
    if (limit && *limit < 1e15) {
      result.model_max_length = static_cast<int64_t>(*limit);
    }
    TakeTemplate(config, result);
  }
  if (Exists(dir / "special_tokens_map.json")) {
    TakeTokens(ConfigReader::Load(dir / "special_tokens_map.json"), result);
  }
  if (Exists(dir / "chat_template.jinja")) {
    const fs::path path = dir / "chat_template.jinja";
    result.chat_template = ReadWholeFile(path, kMaxTemplateBytes);
    result.chat_template_source = path.string();
  }
  return result;
}

std::vector<int32_t> EndTokenIds(const GenerationConfig& generation, const ConfigReader& root,
                                 const ConfigReader& text) {
  std::vector<int32_t> ids = generation.eos_token_ids;
  for (const ConfigReader* config : {&root, &text}) {
    const std::vector<int32_t> more = TokenIds(*config, "eos_token_id");
    ids.insert(ids.end(), more.begin(), more.end());
  }
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

std::span<const std::string_view> TurnEndTokens() {
  static constexpr std::array<std::string_view, 11> kTokens = {"<|eot_id|>",
                                                               "<|im_end|>",
                                                               "<|end|>",
                                                               "<end_of_turn>",
                                                               "<|endoftext|>",
                                                               "<|eom_id|>",
                                                               "<|end_of_text|>",
                                                               "<|endofturn|>",
                                                               "<end_of_utterance>",
                                                               "</s>",
                                                               "<｜end▁of▁sentence｜>"};
  return kTokens;
}

}  // namespace mach::formats
