#include <algorithm>

#include "experts/streamed_lease.h"

namespace mach::experts {

void StreamedStore::DecodeLease::Start(std::span<const backend::WantedExpert> wanted) {
  ExpertBank& bank = store_.bank_;
  pending_.reserve(wanted.size());
  waiting_.reserve(wanted.size());
  returned_.reserve(wanted.size());
  ready_.reserve(wanted.size());
  // Pin what is there before anything is evicted.
  for (const auto& [id, rows] : wanted) {
    const int32_t key = store_.KeyOf(moe_layer_, id);
    const int32_t slot = bank.table().Find(key);
    bank.policy().Use(key, rows);
    stats().CountRequest(backend::ExpertUse::kDecode,
                         slot >= 0 && bank.table().at(slot).state == SlotState::kReady);
    if (slot >= 0) {
      bank.table().Pin(slot);
      waiting_.push_back(slot);
      store_.Want(bank.table(), slot, store_.BankPlace(slot), ReadPriority::kUrgent);
    } else {
      pending_.push_back(id);
    }
  }
  StartPending();
}

StreamedStore::DecodeLease::~DecodeLease() {
  const std::lock_guard lock(store_.mutex_);
  UnpinReturned();
  SlotTable& table = store_.bank_.table();
  for (const int32_t slot : waiting_) {
    table.Unpin(slot);
    const SlotState state = table.at(slot).state;
    if (state == SlotState::kFailed ||
        (state == SlotState::kReading && store_.reader_->Cancel(store_.BankPlace(slot)))) {
      store_.bank_.Release(slot);
    }
  }
  store_.lease_lives_ = false;
}

std::span<const backend::ReadyExpert> StreamedStore::DecodeLease::Next(
    const std::atomic<bool>* cancel) {
  std::unique_lock lock(store_.mutex_);
  UnpinReturned();
  StartPending();
  while (!waiting_.empty() || !pending_.empty()) {
    if (CollectReady()) {
      return ready_;
    }
    ThrowFailure();
    store_.WaitForRead(lock, cancel);
    // What a guess or a lease given up half-way was reading may be ready, and evicted now.
    StartPending();
  }
  return {};
}

void StreamedStore::DecodeLease::UnpinReturned() {
  for (const int32_t slot : returned_) {
    store_.bank_.table().Unpin(slot);
  }
  returned_.clear();
  ready_.clear();
}

void StreamedStore::DecodeLease::StartPending() {
  SlotTable& table = store_.bank_.table();
  size_t started = 0;
  for (; started < pending_.size(); ++started) {
    const int32_t key = store_.KeyOf(moe_layer_, pending_[started]);
    const int32_t slot = store_.bank_.TakeForDemand(key);
    if (slot < 0) {
      break;
    }
    waiting_.push_back(slot);
    store_.QueueRead(store_.BankPlace(slot), key, table.record(slot), ReadPriority::kUrgent);
  }
  pending_.erase(pending_.begin(), pending_.begin() + static_cast<ptrdiff_t>(started));
  store_.SubmitReads();
}

bool StreamedStore::DecodeLease::CollectReady() {
  SlotTable& table = store_.bank_.table();
  const auto is_ready = [&table](int32_t slot) {
    return table.at(slot).state == SlotState::kReady;
  };
  for (const int32_t slot : waiting_) {
    if (is_ready(slot)) {
      ready_.push_back({table.at(slot).key % store_.shape_.experts, table.record(slot)});
      returned_.push_back(slot);
    }
  }
  std::erase_if(waiting_, is_ready);
  return !ready_.empty();
}

void StreamedStore::DecodeLease::ThrowFailure() {
  SlotTable& table = store_.bank_.table();
  const auto failed = std::find_if(waiting_.begin(), waiting_.end(), [&table](int32_t slot) {
    return table.at(slot).state == SlotState::kFailed;
  });
  if (failed == waiting_.end()) {
    return;
  }
  const Error error = *table.at(*failed).error;
  pending_.push_back(table.at(*failed).key % store_.shape_.experts);
  table.Unpin(*failed);
  store_.bank_.Release(*failed);
  waiting_.erase(failed);
  throw error;
}

}  // namespace mach::experts
