// Builds Hugging Face tokenizer files from the tokenizer.ggml.* metadata of a GGUF file: byte-level
// BPE ("gpt2") and SentencePiece BPE with byte fallback ("llama"). The files are made to be read by
// the text module and by `tokenizers` alike. Stateless; any thread.
// Sources: ggml docs/gguf.md; the pre-tokenizer of each name as the Hugging Face tokenizer.json of
// its first model has it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace mach::formats {

class GgufFile;

struct GgufTokenizer {
  std::string tokenizer_json;
  std::string tokenizer_config_json;
  std::optional<std::string> chat_template;
  std::optional<int32_t> bos_token_id;
  std::optional<int32_t> pad_token_id;
  std::vector<int32_t> end_token_ids;  // eos first, then every other token that ends an answer
};

// Throws kCorruptFile for inconsistent metadata, kUnsupported naming a tokenizer model or
// pre-tokenizer that is not known here.
GgufTokenizer BuildGgufTokenizer(const GgufFile& file);

}  // namespace mach::formats
