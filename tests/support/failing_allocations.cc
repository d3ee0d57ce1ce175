#include "tests/support/failing_allocations.h"

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace {

thread_local bool t_armed = false;
thread_local int64_t t_before = 0;  // that succeed yet
thread_local int64_t t_left = 0;    // that fail after those
thread_local bool t_failed = false;

void ThrowIfChosen() {
  if (!t_armed || t_before-- > 0 || t_left-- <= 0) {
    return;
  }
  t_failed = true;
  throw std::bad_alloc();
}

void* Allocate(size_t size) {
  ThrowIfChosen();
  void* const memory = std::malloc(std::max<size_t>(size, 1));
  if (memory == nullptr) {
    throw std::bad_alloc();
  }
  return memory;
}

void* Allocate(size_t size, std::align_val_t alignment) {
  ThrowIfChosen();
  const auto align = static_cast<size_t>(alignment);
  void* const memory =
      std::aligned_alloc(align, (std::max<size_t>(size, 1) + align - 1) / align * align);
  if (memory == nullptr) {
    throw std::bad_alloc();
  }
  return memory;
}

}  // namespace

void* operator new(size_t size) {
  return Allocate(size);
}
void* operator new[](size_t size) {
  return Allocate(size);
}
void* operator new(size_t size, std::align_val_t alignment) {
  return Allocate(size, alignment);
}
void* operator new[](size_t size, std::align_val_t alignment) {
  return Allocate(size, alignment);
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete[](void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, size_t) noexcept {
  std::free(memory);
}
void operator delete[](void* memory, size_t) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::align_val_t) noexcept {
  std::free(memory);
}
void operator delete[](void* memory, std::align_val_t) noexcept {
  std::free(memory);
}
void operator delete(void* memory, size_t, std::align_val_t) noexcept {
  std::free(memory);
}
void operator delete[](void* memory, size_t, std::align_val_t) noexcept {
  std::free(memory);
}

namespace mach::testing_support {

FailingAllocations::FailingAllocations(int64_t first, int64_t count) {
  t_before = first;
  t_left = count;
  t_failed = false;
  t_armed = true;
}

FailingAllocations::~FailingAllocations() {
  t_armed = false;
}

bool FailingAllocations::failed() const {
  return t_failed;
}

}  // namespace mach::testing_support
