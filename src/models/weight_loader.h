// Binds the tensors of a checkpoint to a backend while a model is built: names and shapes are
// checked, biases must be there exactly where the configuration has them, norms get their gain
// whatever the layout stores, progress is reported. Lives only while loading.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "backend/backend.h"
#include "models/loader.h"

namespace mach::models {

// How often a token's forward reads a linear weight.
enum class Use {
  kEveryToken,  // counted in active_bytes
  kOneRow,      // an embedding table: a row for each token
};

// All throw mach::Error naming file, tensor and shapes.
class WeightLoader {
 public:
  // `context` must outlive the loader. With `zero_centred_norms`, Norm adds one to what is stored.
  WeightLoader(const LoadContext& context, bool zero_centred_norms)
      : context_(context), zero_centred_norms_(zero_centred_norms) {}

  backend::Backend& backend() const { return *context_.backend; }

  std::unique_ptr<backend::LinearWeight> Linear(const std::string& module, int64_t out, int64_t in,
                                                bool bias = false, Use use = Use::kEveryToken);
  // The gain of an RMS norm, MODULE.weight [size].
  std::unique_ptr<backend::VectorWeight> Norm(const std::string& module, int64_t size);
  // As stored; `name` is the tensor's.
  std::unique_ptr<backend::VectorWeight> Vector(const std::string& name, const Shape& shape);
  // MODULE.weight of a depthwise convolution, [channels, 1, taps] or [channels, taps, 1], as
  // [taps, channels].
  std::unique_ptr<backend::VectorWeight> DepthwiseConv(const std::string& module, int64_t channels,
                                                       int64_t taps);

  // Bytes that one token's forward reads of what was loaded so far.
  uint64_t active_bytes() const { return active_bytes_; }

 private:
  const LoadContext& context_;
  bool zero_centred_norms_;
  uint64_t active_bytes_ = 0;
};

}  // namespace mach::models
