// Keys and values of one sequence, all layers. Grows by blocks of absolute positions; what is
// rejected by verification or left over from a cancelled request is cut off by Truncate.
#pragma once

#include <cstdint>

#include "tensor/dtype.h"

namespace mach::backend {

struct KvShape {
  int32_t layers = 0;
  int32_t kv_heads = 0;
  int32_t head_dim = 0;
  DType dtype = DType::kBF16;  // F32, BF16 or F16

  friend bool operator==(const KvShape&, const KvShape&) = default;
};

class KvStore {
 public:
  virtual ~KvStore() = default;
  virtual const KvShape& shape() const = 0;

  // Makes room for positions [0, tokens). Throws kResourceLimit at the memory ceiling; what was
  // stored before stays valid then.
  virtual void Reserve(int64_t tokens) = 0;
  // Gives back the blocks that hold only positions >= tokens.
  virtual void Truncate(int64_t tokens) = 0;
  virtual uint64_t bytes() const = 0;
};

}  // namespace mach::backend
