// The small files beside the weights that say how to talk to a model: generation_config.json,
// tokenizer_config.json, chat templates, and which tokens end an answer. Missing files and fields
// mean "not said"; malformed ones are errors. Plain values; any thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mach::formats {

class ConfigReader;

// Sampling values are within what a request may ask for.
struct GenerationConfig {
  std::optional<bool> do_sample;
  std::optional<double> temperature;
  std::optional<double> top_p;
  std::optional<double> min_p;
  std::optional<int64_t> top_k;
  std::optional<double> repetition_penalty;
  std::optional<int64_t> max_new_tokens;
  std::optional<int64_t> max_length;  // prompt and answer together
  std::optional<int32_t> bos_token_id;
  std::optional<int32_t> pad_token_id;
  std::vector<int32_t> eos_token_ids;
};

struct TokenizerConfig {
  std::string bos_token;  // empty = none
  std::string eos_token;
  std::string unk_token;
  std::string pad_token;
  std::optional<bool> add_bos_token;
  std::optional<bool> add_eos_token;
  std::optional<int64_t> model_max_length;   // absent also where the file holds the "no limit" 1e30
  std::optional<std::string> chat_template;  // the one to use
  std::string chat_template_source;          // which file it came from
  std::map<std::string, std::string> named_templates;  // others by name: "tool_use", "rag"
};

// Empty if the directory has no generation_config.json.
GenerationConfig ReadGenerationConfig(const std::filesystem::path& dir);

// chat_template.jinja wins over tokenizer_config.json, which wins over chat_template.json. Tokens
// that tokenizer_config.json does not name are those of special_tokens_map.json.
TokenizerConfig ReadTokenizerConfig(const std::filesystem::path& dir);

// Ids that the configurations name as ends of an answer: generation_config's and the model
// config's, top level and text_config. Files of one model often name one of several each. Sorted,
// without repetition; may be empty.
std::vector<int32_t> EndTokenIds(const GenerationConfig& generation, const ConfigReader& root,
                                 const ConfigReader& text);

// The texts of tokens by which chat models end a turn. A model that has one of them as a special
// token ends its answers there, whether or not a file says so.
// Source: llama.cpp's list of tokens that end a generation.
std::span<const std::string_view> TurnEndTokens();

}  // namespace mach::formats
