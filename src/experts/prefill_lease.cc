#include <algorithm>
#include <utility>

#include "experts/streamed_lease.h"

namespace mach::experts {
namespace {

// A lease returns at most this share of the arena at once: the rest is being read.
constexpr int32_t kReturnShare = 3;

}  // namespace

void StreamedStore::PrefillLease::Start(std::span<const backend::WantedExpert> wanted) {
  reads_on_ = 4 * static_cast<int64_t>(wanted.size()) >= 3 * int64_t{store_.shape_.experts};
  items_.reserve(wanted.size());
  ready_.reserve(wanted.size());
  for (const backend::WantedExpert& expert : wanted) {
    const int32_t key = store_.KeyOf(moe_layer_, expert.id);
    Item item = {expert.id, Source::kNone, -1};
    for (const Source source : {Source::kBank, Source::kArena}) {
      const int32_t slot = TableOf(source).Find(key);
      if (slot >= 0) {
        item.source = source;
        item.slot = slot;
        break;
      }
    }
    stats().CountRequest(backend::ExpertUse::kPrefill, IsReady(item));
    items_.push_back(item);
    if (item.source != Source::kNone) {
      TableOf(item.source).Pin(item.slot);
      store_.Want(TableOf(item.source), item.slot, PlaceOf(item), ReadPriority::kDemand);
    }
  }
  store_.DropReadAhead();
  StartReads();
}

StreamedStore::PrefillLease::~PrefillLease() {
  const std::lock_guard lock(store_.mutex_);
  for (size_t i = returned_from_; i < items_.size(); ++i) {
    GiveUp(items_[i]);
  }
  store_.lease_lives_ = false;
  if (cursor_ == items_.size()) {
    store_.ContinueReadAhead();
  } else {
    store_.DropReadAhead();  // the chunk has ended in the middle: no layer comes next
  }
  store_.SubmitReads();
}

std::span<const backend::ReadyExpert> StreamedStore::PrefillLease::Next(
    const std::atomic<bool>* cancel) {
  std::unique_lock lock(store_.mutex_);
  for (; returned_from_ < cursor_; ++returned_from_) {
    GiveUp(items_[returned_from_]);
  }
  ready_.clear();
  StartReads();
  if (cursor_ == items_.size()) {
    return {};
  }
  while (!IsReady(items_[cursor_])) {
    ThrowFailure(items_[cursor_]);
    store_.WaitForRead(lock, cancel);
    StartReads();
  }
  const int32_t limit = std::max(1, store_.arena_.size() / kReturnShare);
  int32_t from_arena = 0;
  for (; cursor_ < items_.size() && IsReady(items_[cursor_]); ++cursor_) {
    const Item& item = items_[cursor_];
    from_arena += item.source == Source::kArena ? 1 : 0;
    if (from_arena > limit) {
      break;
    }
    ready_.push_back({item.id, TableOf(item.source).record(item.slot)});
  }
  return ready_;
}

SlotTable& StreamedStore::PrefillLease::TableOf(Source source) {
  return source == Source::kBank ? store_.bank_.table() : store_.arena_;
}

uint64_t StreamedStore::PrefillLease::PlaceOf(const Item& item) const {
  return item.source == Source::kBank ? store_.BankPlace(item.slot) : store_.ArenaPlace(item.slot);
}

bool StreamedStore::PrefillLease::IsReady(const Item& item) {
  return item.source != Source::kNone && SlotOf(item).state == SlotState::kReady;
}

void StreamedStore::PrefillLease::StartReads() {
  for (; started_ < items_.size(); ++started_) {
    Item& item = items_[started_];
    if (item.source != Source::kNone) {
      continue;
    }
    if (store_.arena_.full() && !(started_ == cursor_ && TakeBackLast())) {
      break;
    }
    const int32_t key = store_.KeyOf(moe_layer_, item.id);
    item.source = Source::kArena;
    item.slot = store_.arena_.Take(key);
    store_.arena_.Pin(item.slot);
    store_.QueueRead(PlaceOf(item), key, store_.arena_.record(item.slot), ReadPriority::kDemand);
  }
  if (started_ == items_.size()) {
    StartReadAhead();
  }
  store_.SubmitReads();
}

void StreamedStore::PrefillLease::StartReadAhead() {
  const int32_t next = moe_layer_ + 1;
  if (std::exchange(reads_on_, false) && (next < store_.shape_.layers || more_)) {
    store_.read_ahead_ = {next % store_.shape_.layers, 0};
  }
  store_.ContinueReadAhead();
}

// What was read ahead may fill the arena while an earlier expert has no place (its read failed,
// or the bank has evicted it since). Then the last one whose read has ended is given up and read
// again: a failed one too, or nothing would be under way that could wake the caller.
bool StreamedStore::PrefillLease::TakeBackLast() {
  for (size_t i = items_.size(); i-- > cursor_ + 1;) {
    if (items_[i].source == Source::kArena && SlotOf(items_[i]).state != SlotState::kReading) {
      GiveUp(items_[i]);
      return true;
    }
  }
  return false;
}

void StreamedStore::PrefillLease::GiveUp(Item& item) {
  if (item.source == Source::kNone) {
    return;
  }
  TableOf(item.source).Unpin(item.slot);
  const Slot& slot = SlotOf(item);
  if (item.source == Source::kArena) {
    // A read that goes on frees the slot when it ends, as nobody has pinned it.
    if (slot.state != SlotState::kReading || store_.reader_->Cancel(PlaceOf(item))) {
      store_.arena_.Release(item.slot);
    }
  } else if (slot.state == SlotState::kFailed) {
    store_.bank_.Release(item.slot);
  }
  item.source = Source::kNone;
}

void StreamedStore::PrefillLease::ThrowFailure(Item& item) {
  if (item.source == Source::kNone || SlotOf(item).state != SlotState::kFailed) {
    return;
  }
  const Error error = *SlotOf(item).error;
  GiveUp(item);
  store_.DropReadAhead();  // a second try needs a place in the arena
  started_ = cursor_;
  throw error;
}

}  // namespace mach::experts
