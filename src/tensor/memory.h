// Accounted memory: every large allocation has an owner's name, the owners' sum has a ceiling.
//
// MemoryBudget is the one ledger of a process; Buffer is the only way to get large memory. Buffers
// are page-aligned, which direct reads need; large ones to 2 MiB, backed by huge pages where the
// system grants them. Thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>

namespace mach {

class MemoryBudget {
 public:
  // `ceiling_bytes` 0 = no ceiling.
  explicit MemoryBudget(uint64_t ceiling_bytes = 0) : MemoryBudget(ceiling_bytes, /*dry=*/false) {}
  // One for predictions, without a ceiling: buffers book their bytes and have no memory.
  static MemoryBudget Dry() { return {0, /*dry=*/true}; }
  MemoryBudget(const MemoryBudget&) = delete;
  MemoryBudget& operator=(const MemoryBudget&) = delete;
  ~MemoryBudget() = default;

  // Throws kResourceLimit, naming owner, request, sum and ceiling, if the ceiling would be passed.
  void Book(std::string_view owner, uint64_t bytes);
  void Release(std::string_view owner, uint64_t bytes);

  bool dry() const { return dry_; }
  uint64_t ceiling_bytes() const { return ceiling_bytes_; }
  uint64_t TotalBytes() const;
  std::map<std::string, uint64_t> BytesByOwner() const;

 private:
  MemoryBudget(uint64_t ceiling_bytes, bool dry) : ceiling_bytes_(ceiling_bytes), dry_(dry) {}

  const uint64_t ceiling_bytes_;
  const bool dry_;
  mutable std::mutex mutex_;
  std::map<std::string, uint64_t, std::less<>> by_owner_;
  uint64_t total_bytes_ = 0;
};

// Owned memory, moved and never copied. Zero-filled.
class Buffer {
 public:
  Buffer() = default;
  // `budget` must outlive the buffer. Throws kResourceLimit at the ceiling or if the system has no
  // memory left.
  Buffer(MemoryBudget& budget, std::string_view owner, uint64_t bytes);
  Buffer(Buffer&& other) noexcept { Swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    Buffer moved(std::move(other));
    Swap(moved);
    return *this;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer();

  // What a buffer of `bytes` takes from the budget: whole pages. For predictions.
  static uint64_t BookedBytes(uint64_t bytes);

  // What data() of a buffer on a dry budget is: an address that is never mapped. Pointers may be
  // made from it, not read.
  static std::byte* Nowhere();

  std::byte* data() { return data_; }
  const std::byte* data() const { return data_; }
  uint64_t size_bytes() const { return size_bytes_; }
  bool empty() const { return size_bytes_ == 0; }

  template <typename T>
  std::span<T> As() {
    return {reinterpret_cast<T*>(data_), size_bytes_ / sizeof(T)};
  }
  template <typename T>
  std::span<const T> As() const {
    return {reinterpret_cast<const T*>(data_), size_bytes_ / sizeof(T)};
  }

  // Do nothing without memory.
  void CopyFrom(const Buffer& other);  // of the same size
  void Clear();                        // all zero

 private:
  void Swap(Buffer& other) noexcept;
  bool HasMemory() const { return budget_ != nullptr && !budget_->dry(); }

  MemoryBudget* budget_ = nullptr;  // null while empty
  std::string owner_;
  std::byte* data_ = nullptr;
  uint64_t size_bytes_ = 0;
  uint64_t mapped_bytes_ = 0;  // what the system gave: size rounded up to pages
};

}  // namespace mach
