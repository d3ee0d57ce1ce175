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
  explicit MemoryBudget(uint64_t ceiling_bytes = 0) : ceiling_bytes_(ceiling_bytes) {}
  MemoryBudget(const MemoryBudget&) = delete;
  MemoryBudget& operator=(const MemoryBudget&) = delete;
  ~MemoryBudget() = default;

  // Throws kResourceLimit, naming owner, request, sum and ceiling, if the ceiling would be passed.
  void Book(std::string_view owner, uint64_t bytes);
  void Release(std::string_view owner, uint64_t bytes);

  uint64_t ceiling_bytes() const { return ceiling_bytes_; }
  uint64_t TotalBytes() const;
  std::map<std::string, uint64_t> BytesByOwner() const;

 private:
  const uint64_t ceiling_bytes_;
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

 private:
  void Swap(Buffer& other) noexcept;

  MemoryBudget* budget_ = nullptr;
  std::string owner_;
  std::byte* data_ = nullptr;
  uint64_t size_bytes_ = 0;
  uint64_t mapped_bytes_ = 0;  // what the system gave: size rounded up to pages
};

}  // namespace mach
