// Which experts lie where in a streamed store: the slots of the bank and of the transient arena,
// their states, and who may be evicted. No reads, no lock: the owner locks.
//
//   kFree -> kReading -> kReady -> kFree (evicted, or released by the arena)
//               |-> kFailed -> kFree       (a wanted record that could not be read)
//               '-> kFree                  (an unwanted one; or the read was cancelled)
//
// A pinned slot belongs to the living lease, is never a victim and is not freed. A guessed slot was
// read on a guess and has not been wanted yet.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "experts/cache_policy.h"
#include "tensor/memory.h"

namespace mach::experts {

enum class SlotState : uint8_t { kFree, kReading, kReady, kFailed };

struct Slot {
  SlotState state = SlotState::kFree;
  bool pinned = false;
  bool guessed = false;
  int32_t key = -1;
  std::optional<Error> error;  // of kFailed
};

// Slots of equal size in one accounted buffer, found by key.
class SlotTable {
 public:
  SlotTable(MemoryBudget& budget, std::string_view owner, int64_t slots, uint64_t record_bytes,
            int32_t keys);

  int32_t size() const { return static_cast<int32_t>(slots_.size()); }
  std::span<std::byte> memory() { return {memory_.data(), memory_.size_bytes()}; }

  const Slot& at(int32_t slot) const { return slots_[static_cast<size_t>(slot)]; }
  std::byte* record(int32_t slot) {
    return memory_.data() + static_cast<uint64_t>(slot) * record_bytes_;
  }
  // -1 if the key has none.
  int32_t Find(int32_t key) const { return slot_of_[static_cast<size_t>(key)]; }

  bool full() const { return free_.empty(); }

  // The transitions. None allocates or throws. Slots of a bank become ready and free through it.
  int32_t Take(int32_t key);  // a free slot, now kReading; there must be one
  void MarkReady(int32_t slot);
  void Fail(int32_t slot, Error error);  // a pinned one
  void Release(int32_t slot);            // one that is not pinned

  void Pin(int32_t slot);
  void Unpin(int32_t slot);
  void MarkGuessed(int32_t slot);
  void EndGuess(int32_t slot);  // does nothing to one that is not guessed

 private:
  Slot& Of(int32_t slot) { return slots_[static_cast<size_t>(slot)]; }

  const uint64_t record_bytes_;
  std::vector<Slot> slots_;
  std::vector<int32_t> free_;
  std::vector<int32_t> slot_of_;  // [keys]
  Buffer memory_;
};

// A SlotTable that evicts by policy when it is full.
class ExpertBank {
 public:
  ExpertBank(MemoryBudget& budget, int64_t slots, uint64_t record_bytes, const CacheShape& shape,
             std::string_view policy);

  SlotTable& table() { return table_; }
  const SlotTable& table() const { return table_; }
  CachePolicy& policy() { return *policy_; }
  const CachePolicy& policy() const { return *policy_; }

  // A slot for a wanted key, kReading and pinned: a free one or one that is ready and not pinned,
  // guesses last. -1 if there is none.
  int32_t TakeForDemand(int32_t key);
  // A slot for a guess, kReading and guessed; never at the cost of a guess or of what is worth
  // more.
  int32_t TakeForGuess(int32_t key);
  void MarkReady(int32_t slot);
  void Release(int32_t slot);

  int64_t resident() const { return resident_; }
  int64_t resident_of(int32_t layer) const { return by_layer_[static_cast<size_t>(layer)]; }
  int64_t evictions() const { return evictions_; }

 private:
  int32_t Evict(bool guesses_too);

  const CacheShape shape_;
  SlotTable table_;
  std::unique_ptr<CachePolicy> policy_;
  std::vector<int64_t> by_layer_;  // [layers] ready slots
  int64_t resident_ = 0;
  int64_t evictions_ = 0;
};

}  // namespace mach::experts
