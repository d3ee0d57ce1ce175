// KV blocks in memory: the pool of a model and a store for each of its sequences. A block holds
// kKvBlockTokens positions of all layers. The inference thread's own.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "backend/kv_store.h"
#include "kernels/kernels.h"
#include "tensor/memory.h"

namespace mach::backend {

// Held by every store that it belongs to; the last one to let go gives it back to its pool.
using KvBlock = std::shared_ptr<Buffer>;

class CpuKvPool final : public KvPool, public std::enable_shared_from_this<CpuKvPool> {
 public:
  // `budget` must outlive the pool; a pool on a dry one keeps no block that is given back. Pools
  // are held by shared_ptr: stores and blocks hold theirs.
  CpuKvPool(MemoryBudget& budget, const KvShape& shape);

  const KvShape& shape() const override { return shape_; }
  std::unique_ptr<KvStore> NewStore() override;

  bool dry() const { return budget_.dry(); }
  uint64_t layer_bytes() const { return layer_bytes_; }  // keys, or values, of one layer's block
  uint64_t block_bytes() const { return 2 * layer_bytes_ * static_cast<uint64_t>(shape_.layers); }

  // Both throw kResourceLimit at the ceiling.
  KvBlock Take();  // contents undefined
  KvBlock Copy(const Buffer& block);

 private:
  MemoryBudget& budget_;
  KvShape shape_;
  uint64_t layer_bytes_;
  size_t blocks_ = 0;         // that there are
  std::vector<Buffer> free_;  // has room for all of them
};

class CpuKvStore final : public KvStore {
 public:
  explicit CpuKvStore(std::shared_ptr<CpuKvPool> pool);

  const KvShape& shape() const override { return pool_->shape(); }
  void Reserve(int64_t first, int64_t end) override;
  void Truncate(int64_t tokens) override;
  std::unique_ptr<KvStore> Fork(int64_t tokens) override;
  uint64_t bytes() const override { return blocks_.size() * pool_->block_bytes(); }
  uint64_t unshared_bytes() const override;

  kernels::KvLayerView Layer(int32_t layer) const;

 private:
  // At the end, or in place of a block that is there.
  void Put(size_t index, KvBlock block);

  std::shared_ptr<CpuKvPool> pool_;
  std::vector<KvBlock> blocks_;
  // Where the blocks are, for kernels: none of a dry pool.
  std::vector<std::vector<void*>> keys_;    // [layer][block]
  std::vector<std::vector<void*>> values_;  // [layer][block]
};

}  // namespace mach::backend
