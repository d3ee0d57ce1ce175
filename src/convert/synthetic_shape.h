// Shapes of synthetic checkpoints: the fields of config.json that decide what is stored and read,
// the flags of `mach synth` that set them, and the shapes that have a name. Values; any thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/moe_layout.h"
#include "tensor/quant.h"

namespace mach::convert {

// The defaults are those of Qwen3.5-35B-A3B. The last seven mean nothing in the plain family,
// kQwen3Moe.
struct SyntheticShape {
  formats::MoeFamily family = formats::MoeFamily::kQwen35Moe;
  int64_t hidden_size = 2048;
  int64_t layers = 40;
  int64_t vocab_size = 248320;
  int64_t max_context = 262144;

  int64_t experts = 256;
  int64_t top_k = 8;
  int64_t intermediate_size = 512;  // of one expert

  int64_t heads = 16;
  int64_t kv_heads = 2;
  int64_t head_dim = 256;

  int64_t shared_intermediate_size = 512;
  // Layer i is full attention if (i + 1) % full_attention_interval is 0, otherwise a gated delta
  // net.
  int64_t full_attention_interval = 4;
  int64_t linear_key_heads = 16;
  int64_t linear_value_heads = 32;
  int64_t linear_key_head_dim = 128;
  int64_t linear_value_head_dim = 128;
  int64_t conv_taps = 4;

  bool is_hybrid() const { return family == formats::MoeFamily::kQwen35Moe; }
  bool IsFullAttention(int64_t layer) const {
    return !is_hybrid() || (layer + 1) % full_attention_interval == 0;
  }
};

// A flag of `mach synth` that changes a field of a named shape.
struct SyntheticFlag {
  const char* flag;
  int64_t SyntheticShape::*field;
  const char* help;
  int64_t min;
  int64_t max;
  bool hybrid = false;  // means something in the hybrid family alone
};

// All of them; one for each field but the family, whose flag is --family.
std::span<const SyntheticFlag> SyntheticFlags();

std::vector<std::string> SyntheticShapeNames();
// Throws kInvalidArgument listing the names.
SyntheticShape NamedSyntheticShape(std::string_view name);

// Throws kInvalidArgument naming the flag whose value cannot be stored, or that the loader of
// models refuses. `scheme` is one that IsSupported.
void CheckSyntheticShape(const SyntheticShape& shape, AffineScheme scheme);

// The flags of `mach synth` that give this shape, from the named one that needs the fewest:
// "--shape tiny --layers 2".
std::string SyntheticShapeFlags(const SyntheticShape& shape);

}  // namespace mach::convert
