// Bump allocation for the activations of a step. Chunks are kept for the next step, so a warm
// engine allocates nothing. On a dry budget it counts: it books nothing, and what it gives out must
// not be touched. Not thread-safe: the inference thread's own.
#pragma once

#include <cstdint>
#include <vector>

#include "tensor/memory.h"

namespace mach::backend {

class Arena {
 public:
  explicit Arena(MemoryBudget& budget) : budget_(budget) {}

  // One piece for everything up to `bytes`. Only while nothing was ever allocated.
  void Reserve(uint64_t bytes);

  // 64-byte aligned, contents undefined. Throws kResourceLimit at the ceiling.
  void* Allocate(uint64_t bytes);
  template <typename T>
  T* Allocate(int64_t count) {
    return static_cast<T*>(Allocate(static_cast<uint64_t>(count) * sizeof(T)));
  }

  // Everything allocated after Mark() is free again after Release(mark).
  uint64_t Mark() const { return position_; }
  void Release(uint64_t mark);

  // The most bytes that were allocated at a time since the last call, with what was skipped at the
  // ends of chunks.
  uint64_t TakePeak();

 private:
  void Advance(uint64_t bytes);

  MemoryBudget& budget_;
  struct Chunk {
    Buffer memory;
    uint64_t begin = 0;  // position of its first byte
  };
  std::vector<Chunk> chunks_;
  size_t current_ = 0;  // chunk that position_ lies in, if there is one
  uint64_t position_ = 0;
  uint64_t peak_ = 0;
};

}  // namespace mach::backend
