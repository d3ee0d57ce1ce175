#include "tensor/memory.h"

#include <cstring>
#include <utility>

#include <sys/mman.h>

#include "base/check.h"
#include "base/error.h"
#include "base/gigabytes.h"

namespace mach {
namespace {

constexpr uint64_t kPageBytes = 4096;
constexpr uint64_t kHugePageBytes = 2ULL << 20;

uint64_t RoundUp(uint64_t value, uint64_t unit) {
  return (value + unit - 1) / unit * unit;
}

bool UsesHugePages(uint64_t bytes) {
  return bytes >= 2 * kHugePageBytes;
}

// Null if the system has none.
std::byte* Map(uint64_t bytes, bool huge) {
  // For huge pages map one more and cut the ends off, so that the start is aligned to one.
  const uint64_t slack = huge ? kHugePageBytes : 0;
  void* address =
      ::mmap(nullptr, bytes + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address == MAP_FAILED) {
    return nullptr;
  }
  auto* base = static_cast<std::byte*>(address);
  if (huge) {
    const auto raw = reinterpret_cast<uintptr_t>(base);
    const uint64_t head = RoundUp(raw, kHugePageBytes) - raw;
    if (head > 0) {
      ::munmap(base, head);
    }
    if (slack > head) {
      ::munmap(base + head + bytes, slack - head);
    }
    base += head;
#if defined(MADV_HUGEPAGE)
    ::madvise(base, bytes, MADV_HUGEPAGE);
#endif
  }
  return base;
}

}  // namespace

void MemoryBudget::Book(std::string_view owner, uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  if (ceiling_bytes_ != 0 && (bytes > ceiling_bytes_ || total_bytes_ > ceiling_bytes_ - bytes)) {
    throw Error(ErrorCode::kResourceLimit,
                std::string(owner) + " needs " + GigabytesText(bytes) + ", but " +
                    GigabytesText(total_bytes_) + " of the ceiling of " +
                    GigabytesText(ceiling_bytes_) + " are taken",
                "raise --memory-gb or choose smaller caches");
  }
  total_bytes_ += bytes;
  const auto it = by_owner_.find(owner);
  if (it == by_owner_.end()) {
    by_owner_.emplace(std::string(owner), bytes);
  } else {
    it->second += bytes;
  }
}

void MemoryBudget::Release(std::string_view owner, uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  const auto it = by_owner_.find(owner);
  MACH_CHECK(it != by_owner_.end() && it->second >= bytes && total_bytes_ >= bytes);
  it->second -= bytes;
  total_bytes_ -= bytes;
}

uint64_t MemoryBudget::TotalBytes() const {
  const std::lock_guard lock(mutex_);
  return total_bytes_;
}

std::map<std::string, uint64_t> MemoryBudget::BytesByOwner() const {
  const std::lock_guard lock(mutex_);
  return {by_owner_.begin(), by_owner_.end()};
}

uint64_t Buffer::BookedBytes(uint64_t bytes) {
  return RoundUp(bytes, UsesHugePages(bytes) ? kHugePageBytes : kPageBytes);
}

std::byte* Buffer::Nowhere() {
  return reinterpret_cast<std::byte*>(kPageBytes);  // NOLINT(performance-no-int-to-ptr)
}

Buffer::Buffer(MemoryBudget& budget, std::string_view owner, uint64_t bytes) : owner_(owner) {
  if (bytes == 0) {
    return;
  }
  const uint64_t wanted = BookedBytes(bytes);
  budget.Book(owner, wanted);
  data_ = budget.dry() ? Nowhere() : Map(wanted, UsesHugePages(bytes));
  if (data_ == nullptr) {
    budget.Release(owner, wanted);
    throw Error(ErrorCode::kResourceLimit,
                "the system has no " + GigabytesText(wanted) + " of memory for " + owner_);
  }
  budget_ = &budget;
  size_bytes_ = bytes;
  mapped_bytes_ = wanted;
}

Buffer::~Buffer() {
  if (HasMemory()) {
    ::munmap(data_, mapped_bytes_);
  }
  if (budget_ != nullptr) {
    budget_->Release(owner_, mapped_bytes_);
  }
}

void Buffer::CopyFrom(const Buffer& other) {
  MACH_CHECK(other.size_bytes_ == size_bytes_ && other.HasMemory() == HasMemory());
  if (HasMemory()) {
    std::memcpy(data_, other.data_, size_bytes_);
  }
}

void Buffer::Clear() {
  if (HasMemory()) {
    std::memset(data_, 0, size_bytes_);
  }
}

void Buffer::Swap(Buffer& other) noexcept {
  std::swap(budget_, other.budget_);
  std::swap(owner_, other.owner_);
  std::swap(data_, other.data_);
  std::swap(size_bytes_, other.size_bytes_);
  std::swap(mapped_bytes_, other.mapped_bytes_);
}

}  // namespace mach
