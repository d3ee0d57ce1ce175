#include "backend/cpu/cpu_kv_store.h"

#include <utility>

#include "base/check.h"

namespace mach::backend {

namespace {

// Keys, or values, of one layer in a block.
uint64_t LayerBytes(const KvShape& shape) {
  return static_cast<uint64_t>(kernels::kKvBlockTokens) * static_cast<uint64_t>(shape.kv_heads) *
         static_cast<uint64_t>(shape.head_dim) * DTypeBytes(shape.dtype);
}

}  // namespace

uint64_t KvBlockPool::BlockBytes(const KvShape& shape) {
  return 2 * LayerBytes(shape) * static_cast<uint64_t>(shape.layers);
}

KvBlockPool::KvBlockPool(MemoryBudget& budget, const KvShape& shape)
    : budget_(budget), shape_(shape), layer_bytes_(LayerBytes(shape)) {}

Buffer KvBlockPool::Take() {
  if (free_.empty()) {
    return {budget_, "kv", block_bytes()};
  }
  Buffer block = std::move(free_.back());
  free_.pop_back();
  return block;
}

void KvBlockPool::Give(Buffer block) {
  free_.push_back(std::move(block));
}

CpuKvStore::CpuKvStore(std::shared_ptr<KvBlockPool> pool)
    : pool_(std::move(pool)),
      keys_(static_cast<size_t>(pool_->shape().layers)),
      values_(static_cast<size_t>(pool_->shape().layers)) {}

CpuKvStore::~CpuKvStore() {
  Truncate(0);
}

void CpuKvStore::Reserve(int64_t tokens) {
  const auto wanted =
      static_cast<size_t>((tokens + kernels::kKvBlockTokens - 1) / kernels::kKvBlockTokens);
  while (blocks_.size() < wanted) {
    blocks_.push_back(pool_->Take());
    std::byte* at = blocks_.back().data();
    for (size_t layer = 0; layer < keys_.size(); ++layer) {
      keys_[layer].push_back(at);
      values_[layer].push_back(at + pool_->layer_bytes());
      at += 2 * pool_->layer_bytes();
    }
  }
}

void CpuKvStore::Truncate(int64_t tokens) {
  const auto kept =
      static_cast<size_t>((tokens + kernels::kKvBlockTokens - 1) / kernels::kKvBlockTokens);
  while (blocks_.size() > kept) {
    pool_->Give(std::move(blocks_.back()));
    blocks_.pop_back();
    for (size_t layer = 0; layer < keys_.size(); ++layer) {
      keys_[layer].pop_back();
      values_[layer].pop_back();
    }
  }
}

kernels::KvLayerView CpuKvStore::Layer(int32_t layer) const {
  MACH_DCHECK(layer >= 0 && layer < shape().layers);
  const auto at = static_cast<size_t>(layer);
  return {.key_blocks = keys_[at].data(),
          .value_blocks = values_[at].data(),
          .dtype = shape().dtype,
          .kv_heads = shape().kv_heads,
          .head_dim = shape().head_dim};
}

}  // namespace mach::backend
