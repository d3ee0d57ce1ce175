// The small files beside the weights that say how to talk to a model: generation_config.json,
// tokenizer_config.json, chat templates, and which tokens end an answer. Missing files and fields
// mean "not said"; malformed ones are errors. Plain values; any thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace mach::formats {

class ConfigReader;

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

// chat_template.jinja wins over tokenizer_config.json, which wins over chat_template.json.
TokenizerConfig ReadTokenizerConfig(const std::filesystem::path& dir);

// Ids that end an answer: generation_config's list, else the model config's (top level, then
// text_config). Sorted, without repetition; may be empty.
std::vector<int32_t> EndTokenIds(const GenerationConfig& generation, const ConfigReader& root,
                                 const ConfigReader& text);

}  // namespace mach::formats
