#include "backend/cpu/cpu_kv_store.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace mach::backend {
namespace {

size_t BlocksFor(int64_t tokens) {
  return static_cast<size_t>((tokens + kernels::kKvBlockTokens - 1) / kernels::kKvBlockTokens);
}

// Keys, or values, of one layer in a block.
uint64_t LayerBytes(const KvShape& shape) {
  return static_cast<uint64_t>(kernels::kKvBlockTokens) * static_cast<uint64_t>(shape.kv_heads) *
         static_cast<uint64_t>(shape.head_dim) * DTypeBytes(shape.dtype);
}

bool IsShared(const KvBlock& block) {
  return block.use_count() > 1;
}

}  // namespace

CpuKvPool::CpuKvPool(MemoryBudget& budget, const KvShape& shape)
    : budget_(budget), shape_(shape), layer_bytes_(LayerBytes(shape)) {}

std::unique_ptr<KvStore> CpuKvPool::NewStore() {
  return std::make_unique<CpuKvStore>(shared_from_this());
}

KvBlock CpuKvPool::Take() {
  if (free_.empty()) {
    free_.reserve(blocks_ + 1);  // giving back must not throw
    free_.emplace_back(budget_, "kv", block_bytes());
    ++blocks_;
  }
  auto block = std::make_unique<Buffer>(std::move(free_.back()));
  free_.pop_back();
  return {block.release(), [pool = shared_from_this()](Buffer* given) {
            if (pool->dry()) {
              --pool->blocks_;
            } else {
              pool->free_.push_back(std::move(*given));
            }
            delete given;
          }};
}

KvBlock CpuKvPool::Copy(const Buffer& block) {
  KvBlock copy = Take();
  copy->CopyFrom(block);
  return copy;
}

CpuKvStore::CpuKvStore(std::shared_ptr<CpuKvPool> pool)
    : pool_(std::move(pool)),
      keys_(pool_->dry() ? 0 : static_cast<size_t>(pool_->shape().layers)),
      values_(keys_.size()) {}

void CpuKvStore::Put(size_t index, KvBlock block) {
  if (index == blocks_.size()) {
    blocks_.emplace_back();
    for (size_t layer = 0; layer < keys_.size(); ++layer) {
      keys_[layer].push_back(nullptr);
      values_[layer].push_back(nullptr);
    }
  }
  std::byte* at = block->data();
  for (size_t layer = 0; layer < keys_.size(); ++layer) {
    keys_[layer][index] = at;
    values_[layer][index] = at + pool_->layer_bytes();
    at += 2 * pool_->layer_bytes();
  }
  blocks_[index] = std::move(block);
}

void CpuKvStore::Reserve(int64_t first, int64_t end) {
  const size_t wanted = BlocksFor(end);
  const auto written = static_cast<size_t>(first / kernels::kKvBlockTokens);
  for (size_t index = written; index < std::min(wanted, blocks_.size()); ++index) {
    if (IsShared(blocks_[index])) {
      Put(index, pool_->Copy(*blocks_[index]));
    }
  }
  while (blocks_.size() < wanted) {
    Put(blocks_.size(), pool_->Take());
  }
}

void CpuKvStore::Truncate(int64_t tokens) {
  const size_t kept = BlocksFor(tokens);
  if (kept >= blocks_.size()) {
    return;
  }
  blocks_.resize(kept);
  for (size_t layer = 0; layer < keys_.size(); ++layer) {
    keys_[layer].resize(kept);
    values_[layer].resize(kept);
  }
}

std::unique_ptr<KvStore> CpuKvStore::Fork(int64_t tokens) {
  MACH_CHECK(0 <= tokens && BlocksFor(tokens) <= blocks_.size());
  auto fork = std::make_unique<CpuKvStore>(pool_);
  const auto full = static_cast<size_t>(tokens / kernels::kKvBlockTokens);
  for (size_t index = 0; index < full; ++index) {
    fork->Put(index, blocks_[index]);
  }
  if (full < BlocksFor(tokens)) {
    fork->Put(full, pool_->Copy(*blocks_[full]));
  }
  return fork;
}

uint64_t CpuKvStore::unshared_bytes() const {
  const auto shared = std::ranges::count_if(blocks_, IsShared);
  return (blocks_.size() - static_cast<size_t>(shared)) * pool_->block_bytes();
}

kernels::KvLayerView CpuKvStore::Layer(int32_t layer) const {
  MACH_DCHECK(layer >= 0 && layer < shape().layers);
  const auto at = static_cast<size_t>(layer);
  return {.key_blocks = keys_.empty() ? nullptr : keys_[at].data(),
          .value_blocks = values_.empty() ? nullptr : values_[at].data(),
          .dtype = shape().dtype,
          .kv_heads = shape().kv_heads,
          .head_dim = shape().head_dim};
}

}  // namespace mach::backend
