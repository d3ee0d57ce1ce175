// What requests take of memory beside the model: their bodies, what these are parsed into, answers
// that are not streamed, streams that wait for their clients. Booked on the model's budget under
// the owner "requests", up to what the memory plan left for it; whoever gets no more refuses a
// request instead. Thread-safe.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <utility>

#include "api/errors.h"
#include "tensor/memory.h"

namespace mach::server {

class RequestMemory {
 public:
  static constexpr char kOwner[] = "requests";

  // `budget` outlives this; null: nothing is booked. `limit_bytes` 0: no limit but the budget's.
  RequestMemory(MemoryBudget* budget, uint64_t limit_bytes);
  RequestMemory(const RequestMemory&) = delete;
  RequestMemory& operator=(const RequestMemory&) = delete;
  ~RequestMemory() = default;

  // The part of one request; given back when it is destroyed. One thread at a time.
  class Hold {
   public:
    Hold() = default;
    explicit Hold(RequestMemory& memory) : memory_(&memory) {}
    Hold(Hold&& other) noexcept { Swap(other); }
    Hold& operator=(Hold&& other) noexcept {
      Hold moved(std::move(other));
      Swap(moved);
      return *this;
    }
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;
    ~Hold() { Resize(0); }

    // False, and as it was, if there is no room for more; to hold less always works.
    bool Resize(uint64_t bytes);
    uint64_t bytes() const { return bytes_; }

   private:
    void Swap(Hold& other) noexcept {
      std::swap(memory_, other.memory_);
      std::swap(bytes_, other.bytes_);
    }

    RequestMemory* memory_ = nullptr;  // null: holds whatever it is asked to
    uint64_t bytes_ = 0;
  };

  // What a client is told whose request did not get `bytes` for `what` ("its answer"). `cure` is
  // what makes it smaller. A 503 if others have taken what it needs, else it never gets it.
  api::ErrorInfo Refusal(uint64_t bytes, const std::string& what, const std::string& cure) const;

 private:
  bool Change(uint64_t from_bytes, uint64_t to_bytes);

  MemoryBudget* const budget_;
  const uint64_t limit_bytes_;
  mutable std::mutex mutex_;
  uint64_t held_bytes_ = 0;
};

}  // namespace mach::server
