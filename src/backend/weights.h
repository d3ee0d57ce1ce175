// Weights as a backend holds them, and what they are loaded from. Models own these and never look
// inside. Immutable after loading.
#pragma once

#include <cstdint>
#include <optional>

#include "tensor/quant.h"
#include "tensor/view.h"

namespace mach::backend {

// One linear layer y = W x + b as it lies in a checkpoint: exactly one of `affine` and `dense`.
struct LinearData {
  int64_t out_features = 0;
  int64_t in_features = 0;
  std::optional<AffineMatrixView> affine;
  std::optional<TensorView> dense;  // [out, in]
  std::optional<TensorView> bias;   // [out]
};

class LinearWeight {
 public:
  virtual ~LinearWeight() = default;
  virtual int64_t out_features() const = 0;
  virtual int64_t in_features() const = 0;
  // Bytes that one matrix-vector product reads.
  virtual uint64_t bytes() const = 0;
};

// fp32 vector: norm gains.
class VectorWeight {
 public:
  virtual ~VectorWeight() = default;
  virtual int64_t size() const = 0;
};

}  // namespace mach::backend
