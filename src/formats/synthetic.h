// `mach synth`: engine checkpoints of any Mixture-of-Experts shape with random weights, for
// measuring speed and memory without the weights of a real model. They load, serve and answer like
// any other checkpoint; the answers are words without meaning that end only at max_tokens.
//
// Weights are scaled so that a real model's numerical conditions hold: the residual stream grows
// slowly, logits have a standard deviation of about 2, and different tokens are routed to different
// experts. `router_skew` makes some experts of each layer more popular than others.
//
// Deterministic: the same options give the same bytes, on any number of threads. Blocks.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/convert.h"
#include "tensor/quant.h"

namespace mach::formats {

// The fields of config.json that decide what is stored and read. The defaults are those of
// Qwen3.5-35B-A3B.
struct SyntheticShape {
  std::string model_type = "qwen3_5_moe";  // or "qwen3_moe"
  int64_t hidden_size = 2048;
  int64_t layers = 40;
  int64_t vocab_size = 248320;
  int64_t max_context = 262144;

  int64_t experts = 256;
  int64_t top_k = 8;
  int64_t intermediate_size = 512;         // of one expert
  int64_t shared_intermediate_size = 512;  // qwen3_5_moe only

  int64_t heads = 16;
  int64_t kv_heads = 2;
  int64_t head_dim = 256;

  // qwen3_5_moe only: layer i is full attention if (i + 1) % full_attention_interval is 0,
  // otherwise a gated delta net.
  int64_t full_attention_interval = 4;
  int64_t linear_key_heads = 16;
  int64_t linear_value_heads = 32;
  int64_t linear_head_dim = 128;  // of keys and of values
  int64_t conv_taps = 4;

  bool has_delta_net() const { return model_type == "qwen3_5_moe"; }
  bool IsFullAttention(int64_t layer) const {
    return !has_delta_net() || (layer + 1) % full_attention_interval == 0;
  }

  friend bool operator==(const SyntheticShape&, const SyntheticShape&) = default;
};

// The flags of `mach synth` that change a field of a named shape.
struct SyntheticFlag {
  const char* flag;
  int64_t SyntheticShape::*field;
  const char* help;
};

inline constexpr SyntheticFlag kSyntheticFlags[] = {
    {"--layers", &SyntheticShape::layers, "Layers"},
    {"--hidden", &SyntheticShape::hidden_size, "Width of the hidden state"},
    {"--experts", &SyntheticShape::experts, "Experts of each layer"},
    {"--top-k", &SyntheticShape::top_k, "Experts that a token uses in each layer"},
    {"--intermediate", &SyntheticShape::intermediate_size, "Inner width of an expert"},
    {"--shared-intermediate", &SyntheticShape::shared_intermediate_size,
     "Inner width of the shared expert (qwen3_5_moe)"},
    {"--vocab", &SyntheticShape::vocab_size, "Vocabulary"},
    {"--max-context", &SyntheticShape::max_context, "Longest context, tokens"},
    {"--heads", &SyntheticShape::heads, "Query heads"},
    {"--kv-heads", &SyntheticShape::kv_heads, "Key and value heads"},
    {"--head-dim", &SyntheticShape::head_dim, "Width of an attention head"},
};

std::vector<std::string> SyntheticShapeNames();
// Throws kInvalidArgument listing the names.
SyntheticShape NamedSyntheticShape(std::string_view name);

struct SyntheticOptions {
  SyntheticShape shape;
  std::filesystem::path out;
  AffineScheme scheme;  // of everything but routers, which have 8 bits in groups of 64
  // 0: routing as even as random weights make it. Larger: the expert of rank r among a layer's
  // experts is chosen in proportion to r^-skew, as long as no expert would be chosen always.
  double router_skew = 0;
  uint64_t seed = 1;
  bool force = false;  // replace an engine checkpoint that is already there
  int threads = 0;     // 0 = physical cores
  std::string tool_version = "0.1.0";
};

// Writes OUT.partial and renames it, as Convert does. Throws mach::Error naming the option.
ConvertResult WriteSynthetic(const SyntheticOptions& options,
                             const std::function<void(const ConvertProgress&)>& progress);

}  // namespace mach::formats
