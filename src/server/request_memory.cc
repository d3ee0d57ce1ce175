#include "server/request_memory.h"

#include "base/error.h"
#include "base/gigabytes.h"

namespace mach::server {

RequestMemory::RequestMemory(MemoryBudget* budget, uint64_t limit_bytes)
    : budget_(budget), limit_bytes_(limit_bytes) {
  if (budget_ != nullptr) {
    budget_->Book(kOwner, 0);  // reported from the start
  }
}

bool RequestMemory::Hold::Resize(uint64_t bytes) {
  if (memory_ != nullptr && !memory_->Change(bytes_, bytes)) {
    return false;
  }
  bytes_ = bytes;
  return true;
}

bool RequestMemory::Change(uint64_t from_bytes, uint64_t to_bytes) {
  if (to_bytes == from_bytes) {
    return true;
  }
  const std::lock_guard lock(mutex_);
  if (to_bytes < from_bytes) {
    held_bytes_ -= from_bytes - to_bytes;
    if (budget_ != nullptr) {
      budget_->Release(kOwner, from_bytes - to_bytes);
    }
    return true;
  }
  const uint64_t more = to_bytes - from_bytes;
  if (limit_bytes_ != 0 && (more > limit_bytes_ || held_bytes_ > limit_bytes_ - more)) {
    return false;
  }
  if (budget_ != nullptr) {
    try {
      budget_->Book(kOwner, more);
    } catch (const Error&) {
      return false;
    }
  }
  held_bytes_ += more;
  return true;
}

api::ErrorInfo RequestMemory::Refusal(uint64_t bytes, const std::string& what,
                                      const std::string& cure) const {
  uint64_t held_bytes = 0;
  {
    const std::lock_guard lock(mutex_);
    held_bytes = held_bytes_;
  }
  const std::string needs =
      "This request may need " + GigabytesText(bytes) + " of memory for " + what;
  if (limit_bytes_ != 0 && bytes > limit_bytes_) {
    return api::OutOfMemory(needs + ", and the server has " + GigabytesText(limit_bytes_) +
                            " for its requests. " + cure + ", or raise the server's --memory-gb.");
  }
  return api::ServerBusy(needs + ", and other requests hold " + GigabytesText(held_bytes) +
                         (limit_bytes_ != 0 ? " of the " + GigabytesText(limit_bytes_) : "") +
                         " that the server has for them. Try again later. " + cure +
                         " to need less.");
}

}  // namespace mach::server
