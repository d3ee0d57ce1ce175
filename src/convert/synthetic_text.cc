#include "convert/synthetic_text.h"

#include <array>
#include <string_view>

#include <nlohmann/json.hpp>

namespace mach::convert {
namespace {

using Json = nlohmann::ordered_json;

// From kSyntheticEndOfText on.
constexpr std::array<const char*, 3> kSpecialTokens = {"<|endoftext|>", "<|im_start|>",
                                                       "<|im_end|>"};

// The printable stand-ins of byte-level BPE: printable Latin-1 stands for itself, other bytes for
// U+0100 and up, in order. All are below U+0800: at most two bytes of UTF-8.
std::vector<std::string> ByteCharacters() {
  std::vector<std::string> characters;
  uint32_t next = 0x100;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad);
    const uint32_t point = printable ? byte : next++;
    std::string text;
    if (point < 0x80) {
      text += static_cast<char>(point);
    } else {
      text += static_cast<char>(0xc0U | point >> 6);
      text += static_cast<char>(0x80U | (point & 0x3fU));
    }
    characters.push_back(text);
  }
  return characters;
}

std::string Word(int64_t number) {
  constexpr std::string_view kConsonants = "bdfghjklmnprstvz";
  constexpr std::string_view kVowels = "aeio";
  std::string word;
  for (int shift = 12; shift >= 0; shift -= 6) {
    const auto syllable = static_cast<size_t>(number >> shift & 63);
    word += kConsonants[syllable / kVowels.size()];
    word += kVowels[syllable % kVowels.size()];
  }
  return word;
}

std::string TokenizerJson(int64_t vocab_size) {
  const std::vector<std::string> bytes = ByteCharacters();
  Json vocab = Json::object();
  Json::object_t& entries = vocab.get_ref<Json::object_t&>();
  for (size_t byte = 0; byte < bytes.size(); ++byte) {
    entries.emplace_back(bytes[byte], byte);
  }
  // Added tokens keep their ids only if the model has them too; others are numbered behind it.
  for (size_t i = 0; i < kSpecialTokens.size(); ++i) {
    entries.emplace_back(kSpecialTokens[i], kSyntheticEndOfText + static_cast<int64_t>(i));
  }
  for (int64_t id = kSyntheticFirstWord; id < vocab_size; ++id) {
    entries.emplace_back(bytes[' '] + Word(id - kSyntheticFirstWord), id);
  }
  Json added = Json::array();
  for (const char* content : kSpecialTokens) {
    added.push_back({{"id", entries.at(content)},
                     {"content", content},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  }
  const Json byte_level = {{"type", "ByteLevel"},
                           {"add_prefix_space", false},
                           {"trim_offsets", false},
                           {"use_regex", true}};
  const Json root = {{"version", "1.0"},
                     {"truncation", nullptr},
                     {"padding", nullptr},
                     {"added_tokens", added},
                     {"normalizer", nullptr},
                     {"pre_tokenizer", byte_level},
                     {"post_processor", nullptr},
                     {"decoder", byte_level},
                     {"model",
                      {{"type", "BPE"},
                       {"dropout", nullptr},
                       {"unk_token", nullptr},
                       {"continuing_subword_prefix", nullptr},
                       {"end_of_word_suffix", nullptr},
                       {"fuse_unk", false},
                       {"byte_fallback", false},
                       // No merges: a word of the vocabulary is taken whole, all else is bytes.
                       {"ignore_merges", true},
                       {"vocab", std::move(vocab)},
                       {"merges", Json::array()}}}};
  return root.dump() + "\n";
}

std::string TokenizerConfigJson(const SyntheticShape& shape) {
  const Json root = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                     {"bos_token", nullptr},
                     {"eos_token", "<|im_end|>"},
                     {"pad_token", "<|endoftext|>"},
                     {"unk_token", nullptr},
                     {"add_bos_token", false},
                     {"clean_up_tokenization_spaces", false},
                     {"model_max_length", shape.max_context},
                     {"chat_template",
                      "{% for message in messages %}<|im_start|>{{ message.role }}\n"
                      "{{ message.content }}<|im_end|>\n{% endfor %}"
                      "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"}};
  return root.dump(2) + "\n";
}

std::string GenerationConfigJson() {
  const Json root = {{"do_sample", true},
                     {"temperature", 1.0},
                     {"eos_token_id", {kSyntheticMessageEnd, kSyntheticEndOfText}},
                     {"pad_token_id", kSyntheticEndOfText}};
  return root.dump(2) + "\n";
}

Json DeltaNetFields(const SyntheticShape& shape) {
  Json types = Json::array();
  for (int64_t layer = 0; layer < shape.layers; ++layer) {
    types.push_back(shape.IsFullAttention(layer) ? "full_attention" : "linear_attention");
  }
  constexpr double kRotaryShare = 0.25;
  const auto pairs = static_cast<int64_t>(static_cast<double>(shape.head_dim) * kRotaryShare / 2);
  return {{"layer_types", types},
          {"full_attention_interval", shape.full_attention_interval},
          {"attn_output_gate", true},
          {"linear_num_key_heads", shape.linear_key_heads},
          {"linear_num_value_heads", shape.linear_value_heads},
          {"linear_key_head_dim", shape.linear_key_head_dim},
          {"linear_value_head_dim", shape.linear_value_head_dim},
          {"linear_conv_kernel_dim", shape.conv_taps},
          {"mamba_ssm_dtype", "float32"},
          {"shared_expert_intermediate_size", shape.shared_intermediate_size},
          {"rope_parameters",
           {{"rope_type", "default"},
            {"rope_theta", 10000000},
            {"partial_rotary_factor", kRotaryShare},
            {"mrope_interleaved", true},
            {"mrope_section", {(pairs + 2) / 3, (pairs + 1) / 3, pairs / 3}}}}};
}

Json TextConfig(const SyntheticShape& shape) {
  Json config = {{"hidden_size", shape.hidden_size},
                 {"num_hidden_layers", shape.layers},
                 {"num_attention_heads", shape.heads},
                 {"num_key_value_heads", shape.kv_heads},
                 {"head_dim", shape.head_dim},
                 {"attention_bias", false},
                 {"hidden_act", "silu"},
                 {"rms_norm_eps", 1e-6},
                 {"vocab_size", shape.vocab_size},
                 {"max_position_embeddings", shape.max_context},
                 {"tie_word_embeddings", false},
                 {"num_experts", shape.experts},
                 {"num_experts_per_tok", shape.top_k},
                 {"moe_intermediate_size", shape.intermediate_size},
                 {"norm_topk_prob", true},
                 {"eos_token_id", kSyntheticMessageEnd}};
  if (shape.is_hybrid()) {
    config.update(DeltaNetFields(shape));
  } else {
    config["decoder_sparse_step"] = 1;
    config["mlp_only_layers"] = Json::array();
    config["rope_theta"] = 1000000;
  }
  return config;
}

std::string ConfigJson(const SyntheticOptions& options, const std::vector<std::string>& routers) {
  const SyntheticShape& shape = options.shape;
  Json root = {{"model_type", formats::MoeFamilyName(shape.family)}};
  if (shape.is_hybrid()) {
    root["architectures"] = {"Qwen3_5MoeForConditionalGeneration"};
    root["text_config"] = TextConfig(shape);
    root["text_config"]["model_type"] = formats::MoeFamilyName(shape.family) + "_text";
    root["tie_word_embeddings"] = false;
  } else {
    root["architectures"] = {"Qwen3MoeForCausalLM"};
    root.update(TextConfig(shape));
  }
  Json quantisation = {
      {"group_size", options.scheme.group_size}, {"bits", options.scheme.bits}, {"mode", "affine"}};
  for (const std::string& module : routers) {
    quantisation[module] = {{"group_size", 64}, {"bits", 8}};
  }
  root["quantization"] = quantisation;
  root["quantization_config"] = quantisation;
  return root.dump(2) + "\n";
}

}  // namespace

std::vector<SmallFile> SyntheticTextFiles(const SyntheticOptions& options,
                                          const std::vector<std::string>& routers) {
  return {SmallFile::Of("config.json", ConfigJson(options, routers)),
          SmallFile::Of("generation_config.json", GenerationConfigJson()),
          SmallFile::Of("tokenizer.json", TokenizerJson(options.shape.vocab_size)),
          SmallFile::Of("tokenizer_config.json", TokenizerConfigJson(options.shape))};
}

}  // namespace mach::convert
