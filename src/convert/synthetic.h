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

#include "convert/convert.h"
#include "convert/synthetic_shape.h"
#include "tensor/quant.h"

namespace mach::convert {

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

// Of the weights, experts included; a tokenizer adds a few MB. `shape` passes CheckSyntheticShape.
uint64_t SyntheticBytes(const SyntheticShape& shape, AffineScheme scheme);

// Writes OUT.partial and renames it, as Convert does. Throws mach::Error naming the flag.
ConvertResult WriteSynthetic(const SyntheticOptions& options,
                             const std::function<void(const ConvertProgress&)>& progress);

}  // namespace mach::convert
