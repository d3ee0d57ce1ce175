// A tiny dense model as GGUF, with random weights in the block formats asked for.
#pragma once

#include <random>
#include <string>
#include <vector>

#include "formats/gguf.h"
#include "tensor/half.h"
#include "tests/formats/gguf_files.h"
#include "tests/formats/test_files.h"

namespace mach::convert {

inline std::vector<std::string> TinyTokens() {
  std::vector<std::string> tokens = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
  for (char c = '!'; c <= '~'; ++c) {
    tokens.emplace_back(1, c);
  }
  tokens.insert(tokens.end(), {"\u0120", "th", "the", "\u0120the"});
  return tokens;
}

// Random valid blocks: the fp16 scales are small finite numbers.
inline std::string RandomBlocks(uint32_t type, int64_t elements, std::mt19937& random) {
  const formats::GgmlTypeInfo* info = formats::FindGgmlType(type);
  const auto blocks = static_cast<size_t>(elements / info->block_elements);
  std::string bytes(blocks * static_cast<size_t>(info->block_bytes), '\0');
  for (char& c : bytes) {
    c = static_cast<char>(random());
  }
  std::normal_distribution<float> normal(0, 0.05F);
  const auto set = [&](size_t at, bool half) {
    if (half) {
      const uint16_t bits = FloatToF16(normal(random));
      std::memcpy(bytes.data() + at, &bits, 2);
    } else {
      const float value = normal(random);
      std::memcpy(bytes.data() + at, &value, 4);
    }
  };
  for (size_t block = 0; block < blocks; ++block) {
    const size_t at = block * static_cast<size_t>(info->block_bytes);
    switch (static_cast<formats::GgmlType>(type)) {
      case formats::GgmlType::kF32:
        set(at, false);
        break;
      case formats::GgmlType::kQ41:
      case formats::GgmlType::kQ51:
      case formats::GgmlType::kQ4K:
      case formats::GgmlType::kQ5K:
        set(at, true);
        set(at + 2, true);
        break;
      case formats::GgmlType::kQ6K:
        set(at + 208, true);
        break;
      case formats::GgmlType::kBF16:
        bytes[at + 1] = static_cast<char>(0x3c | (bytes[at + 1] & 0x80));
        break;
      default:
        set(at, true);
    }
  }
  return bytes;
}

struct TinyModel {
  std::string architecture = "llama";
  uint32_t linear_type = 2;     // Q4_0
  uint32_t embedding_type = 8;  // Q8_0
  bool own_head = false;
  bool biases = false;
  uint64_t hidden = 256;
  std::vector<float> rope_factors;
  std::string pre = "smollm";
  unsigned seed = 1;
};

// 2 layers, 8 heads of 32, 4 key heads, feed-forward 512.
inline formats::GgufBuilder TinyGguf(const TinyModel& model) {
  std::mt19937 random(model.seed);
  formats::GgufBuilder builder;
  const std::string& a = model.architecture;
  const std::vector<std::string> tokens = TinyTokens();
  const uint64_t vocab = tokens.size();
  std::vector<int32_t> types(tokens.size(), 1);
  types[0] = types[1] = types[2] = 3;
  builder.Str("general.architecture", a)
      .U32(a + ".block_count", 2)
      .U32(a + ".context_length", 512)
      .U32(a + ".embedding_length", static_cast<uint32_t>(model.hidden))
      .U32(a + ".feed_forward_length", 512)
      .U32(a + ".attention.head_count", 8)
      .U32(a + ".attention.head_count_kv", 4)
      .U32(a + ".attention.key_length", 32)
      .F32(a + ".attention.layer_norm_rms_epsilon", 1e-5F)
      .F32(a + ".rope.freq_base", 500000)
      .Str("tokenizer.ggml.model", "gpt2")
      .Str("tokenizer.ggml.pre", model.pre)
      .Strs("tokenizer.ggml.tokens", tokens)
      .I32s("tokenizer.ggml.token_type", types)
      .Strs("tokenizer.ggml.merges", {"t h", "th e", "\u0120 the"})
      .U32("tokenizer.ggml.bos_token_id", 1)
      .U32("tokenizer.ggml.eos_token_id", 2)
      .Str("tokenizer.chat_template", "{{ messages[0].content }}");
  const auto add = [&](const std::string& name, uint32_t type, std::vector<uint64_t> dims) {
    int64_t elements = 1;
    for (const uint64_t dim : dims) {
      elements *= static_cast<int64_t>(dim);
    }
    builder.Tensor(name, type, dims, RandomBlocks(type, elements, random));
  };
  add("token_embd.weight", model.embedding_type, {model.hidden, vocab});
  for (int layer = 0; layer < 2; ++layer) {
    const std::string p = "blk." + std::to_string(layer) + ".";
    add(p + "attn_norm.weight", 0, {model.hidden});
    add(p + "ffn_norm.weight", 0, {model.hidden});
    add(p + "attn_q.weight", model.linear_type, {model.hidden, 256});
    add(p + "attn_k.weight", model.linear_type, {model.hidden, 128});
    add(p + "attn_v.weight", model.linear_type, {model.hidden, 128});
    add(p + "attn_output.weight", model.linear_type, {256, model.hidden});
    add(p + "ffn_gate.weight", model.linear_type, {model.hidden, 512});
    add(p + "ffn_up.weight", model.linear_type, {model.hidden, 512});
    add(p + "ffn_down.weight", model.linear_type, {512, model.hidden});
    if (model.biases) {
      add(p + "attn_q.bias", 0, {256});
      add(p + "attn_k.bias", 0, {128});
      add(p + "attn_v.bias", 0, {128});
      if (a == "llama") {
        add(p + "attn_output.bias", 0, {model.hidden});
      }
    }
    if (a == "qwen3") {
      add(p + "attn_q_norm.weight", 0, {32});
      add(p + "attn_k_norm.weight", 0, {32});
    }
  }
  add("output_norm.weight", 0, {model.hidden});
  if (model.own_head) {
    add("output.weight", model.linear_type, {model.hidden, vocab});
  }
  if (!model.rope_factors.empty()) {
    builder.Tensor("rope_freqs.weight", 0, {model.rope_factors.size()},
                   formats::BytesOf(model.rope_factors));
  }
  return builder;
}

}  // namespace mach::convert
