// Random weights for synthetic checkpoints, made in the encoding in which they are stored. Private
// to convert/. Every value is a function of (seed, name, position), so results do not depend on
// threads or order. Stateless unless said otherwise.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "convert/convert_plan.h"
#include "tensor/expert_layout.h"

namespace mach::convert {

// A sequence of random words with random access (SplitMix64).
class RandomWords {
 public:
  RandomWords(uint64_t seed, std::string_view name);

  uint64_t Word(uint64_t index) const;
  float Uniform(uint64_t index) const;  // in [-1, 1)
  // Words first, first + 1, ... as little-endian bytes; out.size() is a multiple of 8.
  void Fill(uint64_t first, std::span<std::byte> out) const;

 private:
  uint64_t key_;
};

struct RandomLinear {
  std::string module;
  int64_t out_features = 0;
  int64_t in_features = 0;
  AffineScheme scheme;
  // Standard deviation of the outputs for inputs of unit mean square: weights have gain/sqrt(in).
  double gain = 1;
  int64_t zero_rows = 0;        // the first outputs are always 0
  int64_t constant_inputs = 0;  // the first weights of each row are `constant`: whole groups
  float constant = 0;
};

// Uniform codes, scales that vary by a quarter, biases that make the mean 0; BF16.
ConversionStep RandomAffineStep(const ConversionContext& context, const RandomLinear& linear,
                                uint64_t seed);

// A small float tensor; `value` gets the element's index.
ConversionStep FloatStep(OutputTensor tensor, std::function<float(int64_t)> value);

// Expert records cut from two pools of random packed blocks at ever different places, which is as
// fast as copying. All records differ, also in each part. Immutable; any thread.
class ExpertPool {
 public:
  ExpertPool(const ExpertLayout& layout, int64_t records, uint64_t seed, ThreadPool& pool);

  // `index` in [0, records). `record` holds layout.record_bytes; padding is left as it is.
  void Fill(int64_t index, std::span<std::byte> record) const;

 private:
  class Blocks {
   public:
    // `parts` distinct slices of `spec`.
    Blocks(const PackedSpec& spec, int64_t parts, uint64_t seed, std::string_view name,
           ThreadPool& pool);
    std::span<const std::byte> Part(int64_t index) const;

   private:
    uint64_t block_bytes_;
    uint64_t part_bytes_;
    uint64_t starts_;  // places where a part may begin, in blocks
    uint64_t step_;    // from the start of one part to that of the next, modulo starts_
    std::vector<std::byte> bytes_;
  };

  ExpertLayout layout_;
  Blocks gate_up_;
  Blocks down_;
};

// How much each expert's router logit must be raised, in standard deviations of the logit, so that
// about top_k are positive and the expert of rank r is so in proportion to r^-skew. Rank order.
std::vector<double> PopularityShifts(int64_t experts, int64_t top_k, double skew);

}  // namespace mach::convert
