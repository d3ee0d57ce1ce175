#include "experts/expert_bank.h"

#include <utility>

#include "base/check.h"
#include "platform/direct_reader.h"

namespace mach::experts {

SlotTable::SlotTable(MemoryBudget& budget, std::string_view owner, int64_t slots,
                     uint64_t record_bytes, int32_t keys)
    : record_bytes_(record_bytes),
      slots_(static_cast<size_t>(slots)),
      slot_of_(static_cast<size_t>(keys), -1),
      memory_(budget, owner, static_cast<uint64_t>(slots) * record_bytes) {
  MACH_DCHECK(reinterpret_cast<uintptr_t>(memory_.data()) % DirectReader::kAlignment == 0);
  MACH_DCHECK(record_bytes % DirectReader::kAlignment == 0);
  free_.reserve(slots_.size());
  for (int32_t slot = size(); slot-- > 0;) {
    free_.push_back(slot);
  }
}

int32_t SlotTable::Take(int32_t key) {
  const int32_t slot = free_.back();
  free_.pop_back();
  Of(slot).state = SlotState::kReading;
  Of(slot).key = key;
  slot_of_[static_cast<size_t>(key)] = slot;
  return slot;
}

void SlotTable::MarkReady(int32_t slot) {
  MACH_DCHECK(at(slot).state == SlotState::kReading);
  Of(slot).state = SlotState::kReady;
}

void SlotTable::Fail(int32_t slot, Error error) {
  MACH_DCHECK(at(slot).state == SlotState::kReading && at(slot).pinned);
  Of(slot).state = SlotState::kFailed;
  Of(slot).error = std::move(error);
}

void SlotTable::Release(int32_t slot) {
  MACH_DCHECK(at(slot).state != SlotState::kFree && !at(slot).pinned);
  slot_of_[static_cast<size_t>(at(slot).key)] = -1;
  Of(slot) = {};
  free_.push_back(slot);
}

void SlotTable::Pin(int32_t slot) {
  MACH_DCHECK(at(slot).state == SlotState::kReading || at(slot).state == SlotState::kReady);
  MACH_DCHECK(!at(slot).pinned);
  Of(slot).pinned = true;
}

void SlotTable::Unpin(int32_t slot) {
  MACH_DCHECK(at(slot).pinned);
  Of(slot).pinned = false;
}

void SlotTable::MarkGuessed(int32_t slot) {
  MACH_DCHECK(at(slot).state == SlotState::kReading && !at(slot).pinned);
  Of(slot).guessed = true;
}

void SlotTable::EndGuess(int32_t slot) {
  Of(slot).guessed = false;
}

ExpertBank::ExpertBank(MemoryBudget& budget, int64_t slots, uint64_t record_bytes,
                       const CacheShape& shape, std::string_view policy)
    : shape_(shape),
      table_(budget, "expert_bank", slots, record_bytes, shape.keys()),
      policy_(MakeCachePolicy(policy, shape)),
      by_layer_(static_cast<size_t>(shape.layers), 0) {}

int32_t ExpertBank::TakeForDemand(int32_t key) {
  if (table_.full() && Evict(/*guesses_too=*/false) < 0 && Evict(/*guesses_too=*/true) < 0) {
    return -1;
  }
  const int32_t slot = table_.Take(key);
  table_.Pin(slot);
  return slot;
}

int32_t ExpertBank::TakeForGuess(int32_t key) {
  if (table_.full()) {
    const int32_t victim = policy_->Victim([this](int32_t candidate) {
      const Slot& slot = table_.at(table_.Find(candidate));
      return !slot.pinned && !slot.guessed;
    });
    if (victim < 0 || !policy_->WorthEvicting(victim, key)) {
      return -1;
    }
    ++evictions_;
    Release(table_.Find(victim));
  }
  const int32_t slot = table_.Take(key);
  table_.MarkGuessed(slot);
  return slot;
}

int32_t ExpertBank::Evict(bool guesses_too) {
  const int32_t victim = policy_->Victim([this, guesses_too](int32_t candidate) {
    const Slot& slot = table_.at(table_.Find(candidate));
    return !slot.pinned && (guesses_too || !slot.guessed);
  });
  if (victim >= 0) {
    ++evictions_;
    Release(table_.Find(victim));
  }
  return victim;
}

void ExpertBank::MarkReady(int32_t slot) {
  table_.MarkReady(slot);
  const int32_t key = table_.at(slot).key;
  policy_->Insert(key);
  ++resident_;
  ++by_layer_[static_cast<size_t>(key / shape_.experts)];
}

void ExpertBank::Release(int32_t slot) {
  if (table_.at(slot).state == SlotState::kReady) {
    const int32_t key = table_.at(slot).key;
    policy_->Erase(key);
    --resident_;
    --by_layer_[static_cast<size_t>(key / shape_.experts)];
  }
  table_.Release(slot);
}

}  // namespace mach::experts
