// The dense pre-norm decoder that llama, qwen2 and qwen3 share:
//   x += Wo attention(rope(q), rope(k), v) of rms(x);   x += down(silu(gate) * up) of rms(x)
// then a final norm and the output layer. A family says which parts it has (families.h).
#pragma once

#include <memory>
#include <string>

#include "backend/backend.h"
#include "models/loader.h"
#include "models/model.h"

namespace mach::models {

struct DenseConfig {
  ModelShape shape;
  int32_t q_heads = 0;
  int32_t kv_heads = 0;
  int32_t head_dim = 0;
  int32_t intermediate_size = 0;
  float norm_eps = 0;
  bool tie_word_embeddings = false;
  bool qk_norm = false;   // RMS norm of each query and key head before the rotation
  bool qkv_bias = false;  // these biases must be in the checkpoint; others must not
  bool o_bias = false;
  bool mlp_bias = false;
  backend::RopeSpec rope;
};

// What all dense families read alike from config.json; a family then sets what differs.
DenseConfig ReadDenseConfig(const formats::Checkpoint& checkpoint);

// Throws mach::Error naming file, tensor and shapes.
std::unique_ptr<Model> MakeDenseDecoder(const LoadContext& context, DenseConfig config);

}  // namespace mach::models
