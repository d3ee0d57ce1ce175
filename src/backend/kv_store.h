// Keys and values of one sequence, all layers, and the pool that the sequences of a model take
// their memory from. A store grows by blocks of absolute positions; what is rejected by
// verification or left over from a cancelled request is cut off by Truncate. A fork shares the
// blocks that are full; whoever is to write into a shared block first gets a copy of its own.
//
// The inference thread's own.
#pragma once

#include <cstdint>
#include <memory>

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

  // Makes room for positions [0, end), of which those from `first` on may then be written. Throws
  // kResourceLimit at the memory ceiling; what was stored before stays valid then.
  virtual void Reserve(int64_t first, int64_t end) = 0;
  // Gives back the blocks that hold only positions >= tokens.
  virtual void Truncate(int64_t tokens) = 0;
  // A store of the same pool with positions [0, tokens) of this one, which has room for them.
  // Throws kResourceLimit.
  virtual std::unique_ptr<KvStore> Fork(int64_t tokens) = 0;

  virtual uint64_t bytes() const = 0;  // of all its blocks
  // Of the blocks that no other store holds: what destroying this one would give back.
  virtual uint64_t unshared_bytes() const = 0;
};

// The blocks of one model's sequences. Those that are given back are kept for the next sequence.
// Stores keep their pool alive.
class KvPool {
 public:
  virtual ~KvPool() = default;
  virtual const KvShape& shape() const = 0;
  virtual std::unique_ptr<KvStore> NewStore() = 0;  // empty
};

}  // namespace mach::backend
