#include "backend/cpu/arena.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace mach::backend {
namespace {

constexpr uint64_t kAlignment = 64;
constexpr uint64_t kMinChunkBytes = 1ULL << 20;

}  // namespace

void Arena::Reserve(uint64_t bytes) {
  MACH_CHECK(chunks_.empty());
  if (bytes > 0) {
    chunks_.push_back({.memory = Buffer(budget_, "activations", bytes), .begin = 0});
  }
}

void* Arena::Allocate(uint64_t bytes) {
  const uint64_t wanted = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  if (budget_.dry()) {
    Advance(wanted);
    return Buffer::Nowhere();
  }
  // The tail of a chunk that is too small is skipped: positions only grow.
  while (current_ < chunks_.size()) {
    Chunk& chunk = chunks_[current_];
    const uint64_t offset = position_ - chunk.begin;
    if (offset + wanted <= chunk.memory.size_bytes()) {
      Advance(wanted);
      return chunk.memory.data() + offset;
    }
    position_ = chunk.begin + chunk.memory.size_bytes();
    ++current_;
  }
  Chunk chunk;
  chunk.begin = position_;
  chunk.memory = Buffer(budget_, "activations", std::max(wanted, kMinChunkBytes));
  void* data = chunk.memory.data();
  chunks_.push_back(std::move(chunk));
  Advance(wanted);
  return data;
}

void Arena::Advance(uint64_t bytes) {
  position_ += bytes;
  peak_ = std::max(peak_, position_);
}

uint64_t Arena::TakePeak() {
  return std::exchange(peak_, position_);
}

void Arena::Release(uint64_t mark) {
  MACH_DCHECK(mark <= position_);
  position_ = mark;
  while (current_ > 0 && (current_ >= chunks_.size() || position_ < chunks_[current_].begin)) {
    --current_;
  }
}

}  // namespace mach::backend
