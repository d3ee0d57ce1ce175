// What a GGUF model file means in Hugging Face terms: its config.json, and for each tensor the name
// and row order it has there. Dense architectures llama, qwen2 and qwen3. Stateless; any thread.
// Sources: ggml docs/gguf.md, gguf-py constants; transformers model configs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace mach::formats {

class GgufFile;
struct GgufTensor;

// Which row of the GGUF tensor is row r of the Hugging Face one. GGUF stores q and k of the llama
// architecture for rotation of neighbouring pairs (2i, 2i+1); Hugging Face rotates (i, i+D/2).
struct RowOrder {
  int64_t head_dim = 0;  // 0: the same order

  int64_t SourceRow(int64_t row) const {
    if (head_dim == 0) {
      return row;
    }
    const int64_t within = row % head_dim;
    const int64_t half = head_dim / 2;
    return row - within + 2 * (within % half) + within / half;
  }
};

struct GgufModelTensor {
  const GgufTensor* tensor = nullptr;
  std::string name;  // "model.layers.0.self_attn.q_proj.weight"
  RowOrder order;
  bool linear = false;  // weight of a linear layer or embedding: may be quantised
};

struct GgufModel {
  nlohmann::ordered_json config;         // without a quantization field
  std::vector<GgufModelTensor> tensors;  // in the file's order; rope_freqs is folded into config
};

// Throws kUnsupported (architecture, rope variant, tensors without a place), kCorruptFile
// (metadata and shapes that contradict each other).
GgufModel DescribeGgufModel(const GgufFile& file);

}  // namespace mach::formats
