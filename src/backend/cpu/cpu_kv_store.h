// KV blocks in memory: a pool shared by all sequences of a model, and a store for each sequence.
// A block holds kKvBlockTokens positions of all layers. Blocks that a sequence gives back are kept
// for the next one. The inference thread's own.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "backend/kv_store.h"
#include "kernels/kernels.h"
#include "tensor/memory.h"

namespace mach::backend {

class KvBlockPool {
 public:
  static uint64_t BlockBytes(const KvShape& shape);

  KvBlockPool(MemoryBudget& budget, const KvShape& shape);

  const KvShape& shape() const { return shape_; }
  uint64_t layer_bytes() const { return layer_bytes_; }  // keys, or values, of one layer's block
  uint64_t block_bytes() const { return BlockBytes(shape_); }

  Buffer Take();  // throws kResourceLimit at the ceiling
  void Give(Buffer block);

 private:
  MemoryBudget& budget_;
  KvShape shape_;
  uint64_t layer_bytes_;
  std::vector<Buffer> free_;
};

class CpuKvStore final : public KvStore {
 public:
  explicit CpuKvStore(std::shared_ptr<KvBlockPool> pool);
  CpuKvStore(const CpuKvStore&) = delete;
  CpuKvStore& operator=(const CpuKvStore&) = delete;
  ~CpuKvStore() override;

  const KvShape& shape() const override { return pool_->shape(); }
  void Reserve(int64_t tokens) override;
  void Truncate(int64_t tokens) override;
  uint64_t bytes() const override { return blocks_.size() * pool_->block_bytes(); }

  kernels::KvLayerView Layer(int32_t layer) const;

 private:
  std::shared_ptr<KvBlockPool> pool_;
  std::vector<Buffer> blocks_;
  std::vector<std::vector<void*>> keys_;    // [layer][block]
  std::vector<std::vector<void*>> values_;  // [layer][block]
};

}  // namespace mach::backend
