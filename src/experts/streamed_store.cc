#include "experts/streamed_store.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "experts/heat.h"

namespace mach::experts {
namespace {

constexpr double kHeatHalfLifeTokens = 4096;
constexpr float kHeatKeptOverRestart = 0.5F;
constexpr auto kHeatSaveInterval = std::chrono::minutes(1);
constexpr int64_t kDefaultArenaRecords = 24;
constexpr int64_t kMinArenaRecords = 4;
// Guesses hold at most this share of the bank.
constexpr int32_t kGuessShare = 4;
// A prefill lease returns at most this share of the arena at once: the rest is being read.
constexpr int32_t kReturnShare = 3;

std::string MiB(uint64_t bytes) {
  return std::to_string((bytes + (1 << 20) - 1) >> 20) + " MiB";
}

}  // namespace

int64_t BankRecords(const formats::ExpertSidecar& sidecar, const StreamOptions& options) {
  const uint64_t record_bytes = sidecar.layout.record_bytes;
  const auto all = static_cast<int64_t>(sidecar.moe_layers.size()) * sidecar.experts;
  const auto records =
      static_cast<int64_t>(std::min<uint64_t>(options.bank_bytes / record_bytes, all));
  if (options.top_k < 1 || options.top_k > sidecar.experts) {
    throw Error(ErrorCode::kInvalidArgument, "top_k of " + std::to_string(options.top_k) +
                                                 " with " + std::to_string(sidecar.experts) +
                                                 " experts in a layer");
  }
  if (records < options.top_k) {
    throw Error(ErrorCode::kInvalidArgument,
                "an expert cache of " + MiB(options.bank_bytes) + " holds " +
                    std::to_string(records) + " experts, but one token needs " +
                    std::to_string(options.top_k) + " in a layer",
                "--expert-cache-gb of at least " +
                    MiB(static_cast<uint64_t>(options.top_k) * record_bytes));
  }
  return records;
}

int64_t ArenaRecords(const formats::ExpertSidecar& sidecar, const StreamOptions& options) {
  if (options.arena_bytes == 0) {
    return kDefaultArenaRecords;
  }
  const auto records = static_cast<int64_t>(options.arena_bytes / sidecar.layout.record_bytes);
  if (records < kMinArenaRecords) {
    throw Error(ErrorCode::kInvalidArgument, "a prefill arena of " + MiB(options.arena_bytes) +
                                                 " holds " + std::to_string(records) +
                                                 " experts; expected at least " +
                                                 std::to_string(kMinArenaRecords));
  }
  return records;
}

// What both kinds share: the experts asked for, one at a time alive, and the span returned last.
class StreamedStore::Lease : public backend::ExpertLease {
 public:
  explicit Lease(StreamedStore& store, int32_t moe_layer) : store_(store), moe_layer_(moe_layer) {
    MACH_CHECK(!store_.lease_lives_);
    store_.lease_lives_ = true;
  }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  ~Lease() override = default;

 protected:
  // With mutex_ held.
  void End() { store_.lease_lives_ = false; }

  StreamedStore& store_;
  const int32_t moe_layer_;
  std::vector<backend::ReadyExpert> ready_;  // what the last Next returned
};

// Experts of a decode step. Those that find no slot wait until this lease has given some up: each
// call of Next unpins what the one before returned, so even a bank of top_k slots serves any
// number.
class StreamedStore::DecodeLease final : public Lease {
 public:
  // With mutex_ held.
  DecodeLease(StreamedStore& store, int32_t moe_layer, std::span<const int32_t> ids)
      : Lease(store, moe_layer) {
    ExpertBank& bank = store_.bank_;
    waiting_.reserve(ids.size());
    ready_.reserve(ids.size());
    // Pin what is there before anything is evicted.
    for (const int32_t id : ids) {
      const int32_t key = store_.KeyOf(moe_layer, id);
      const int32_t slot = bank.table().Find(key);
      bank.policy().Use(key);
      store_.CountRequest(moe_layer, slot >= 0 && bank.table().at(slot).state == SlotState::kReady);
      if (slot >= 0) {
        store_.Want(bank.table().at(slot), store_.BankPlace(slot));
        waiting_.push_back(slot);
      } else {
        pending_.push_back(id);
      }
    }
    StartPending();
  }
  DecodeLease(const DecodeLease&) = delete;
  DecodeLease& operator=(const DecodeLease&) = delete;
  ~DecodeLease() override {
    const std::lock_guard lock(store_.mutex_);
    Unpin();
    SlotTable& table = store_.bank_.table();
    for (const int32_t slot : waiting_) {
      table.at(slot).pinned = false;
      const SlotState state = table.at(slot).state;
      if (state == SlotState::kFailed ||
          (state == SlotState::kReading && store_.reader_->Cancel(store_.BankPlace(slot)))) {
        store_.bank_.Release(slot);
      }
    }
    End();
  }

  std::span<const backend::ReadyExpert> Next() override {
    std::unique_lock lock(store_.mutex_);
    Unpin();
    StartPending();
    while (!waiting_.empty() || !pending_.empty()) {
      if (CollectReady()) {
        return ready_;
      }
      ThrowFailure();
      store_.WaitForRead(lock);
      // What a guess or a lease given up half-way was reading may be ready, and evicted now.
      StartPending();
    }
    return {};
  }

 private:
  void Unpin() {
    for (const int32_t slot : returned_) {
      store_.bank_.table().at(slot).pinned = false;
    }
    returned_.clear();
    ready_.clear();
  }

  void StartPending() {
    SlotTable& table = store_.bank_.table();
    size_t started = 0;
    for (; started < pending_.size(); ++started) {
      const int32_t key = store_.KeyOf(moe_layer_, pending_[started]);
      const int32_t slot = store_.bank_.TakeForDemand(key);
      if (slot < 0) {
        break;
      }
      store_.QueueRead(store_.BankPlace(slot), key, table.record(slot), ReadPriority::kDemand);
      waiting_.push_back(slot);
    }
    pending_.erase(pending_.begin(), pending_.begin() + static_cast<ptrdiff_t>(started));
    store_.SubmitReads();
  }

  bool CollectReady() {
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

  void ThrowFailure() {
    SlotTable& table = store_.bank_.table();
    const auto failed = std::find_if(waiting_.begin(), waiting_.end(), [&table](int32_t slot) {
      return table.at(slot).state == SlotState::kFailed;
    });
    if (failed == waiting_.end()) {
      return;
    }
    const Error error = *table.at(*failed).error;
    pending_.push_back(table.at(*failed).key % store_.shape_.experts);
    store_.bank_.Release(*failed);
    waiting_.erase(failed);
    throw error;
  }

  std::vector<int32_t> pending_;   // ids without a slot
  std::vector<int32_t> waiting_;   // slots, pinned, not returned yet
  std::vector<int32_t> returned_;  // slots, pinned, of the last Next
};

// Experts of a prefill chunk, in ascending order. What the bank has is used from there; the rest
// goes through the arena, as far ahead as it has room.
class StreamedStore::PrefillLease final : public Lease {
 public:
  // With mutex_ held.
  PrefillLease(StreamedStore& store, int32_t moe_layer, std::span<const int32_t> ids)
      : Lease(store, moe_layer),
        reads_on_(4 * static_cast<int64_t>(ids.size()) >= 3 * int64_t{store.shape_.experts}) {
    items_.reserve(ids.size());
    for (const int32_t id : ids) {
      const int32_t key = store_.KeyOf(moe_layer, id);
      Item item = {id, Source::kNone, -1};
      for (const Source source : {Source::kBank, Source::kArena}) {
        const int32_t slot = TableOf(source).Find(key);
        if (slot >= 0) {
          item.source = source;
          item.slot = slot;
          break;
        }
      }
      bool hit = false;
      if (item.source != Source::kNone) {
        hit = SlotOf(item).state == SlotState::kReady;
        store_.Want(SlotOf(item), item.source == Source::kBank ? store_.BankPlace(item.slot)
                                                               : store_.ArenaPlace(item.slot));
      }
      store_.CountRequest(moe_layer, hit);
      items_.push_back(item);
    }
    store_.DropReadAhead();
    StartReads();
  }
  PrefillLease(const PrefillLease&) = delete;
  PrefillLease& operator=(const PrefillLease&) = delete;
  ~PrefillLease() override {
    const std::lock_guard lock(store_.mutex_);
    for (size_t i = returned_from_; i < items_.size(); ++i) {
      GiveUp(items_[i]);
    }
    End();
    store_.ContinueReadAhead();
    store_.SubmitReads();
  }

  std::span<const backend::ReadyExpert> Next() override {
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
      store_.WaitForRead(lock);
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

 private:
  enum class Source : uint8_t { kNone, kBank, kArena };
  struct Item {
    int32_t id;
    Source source;
    int32_t slot;  // pinned
  };

  SlotTable& TableOf(Source source) {
    return source == Source::kBank ? store_.bank_.table() : store_.arena_;
  }
  Slot& SlotOf(const Item& item) { return TableOf(item.source).at(item.slot); }
  bool IsReady(const Item& item) {
    return item.source != Source::kNone && SlotOf(item).state == SlotState::kReady;
  }

  void StartReads() {
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
      SlotOf(item).pinned = true;
      store_.QueueRead(store_.ArenaPlace(item.slot), key, store_.arena_.record(item.slot),
                       ReadPriority::kDemand);
    }
    if (started_ == items_.size()) {
      if (reads_on_ && moe_layer_ + 1 < store_.shape_.layers) {
        store_.read_ahead_ = {moe_layer_ + 1, 0};
        reads_on_ = false;
      }
      store_.ContinueReadAhead();
    }
    store_.SubmitReads();
  }

  // What was read ahead may fill the arena while an earlier expert has no place (its read failed,
  // or the bank has evicted it since). Then the last one that is ready is given up and read again.
  bool TakeBackLast() {
    for (size_t i = items_.size(); i-- > cursor_ + 1;) {
      if (items_[i].source == Source::kArena && IsReady(items_[i])) {
        GiveUp(items_[i]);
        return true;
      }
    }
    return false;
  }

  void GiveUp(Item& item) {
    if (item.source == Source::kNone) {
      return;
    }
    Slot& slot = SlotOf(item);
    slot.pinned = false;
    if (item.source == Source::kArena) {
      // A read that goes on frees the slot when it ends, as nobody has pinned it.
      if (slot.state != SlotState::kReading ||
          store_.reader_->Cancel(store_.ArenaPlace(item.slot))) {
        store_.arena_.Release(item.slot);
      }
    } else if (slot.state == SlotState::kFailed) {
      store_.bank_.Release(item.slot);
    }
    item.source = Source::kNone;
  }

  void ThrowFailure(Item& item) {
    if (item.source == Source::kNone || SlotOf(item).state != SlotState::kFailed) {
      return;
    }
    const Error error = *SlotOf(item).error;
    GiveUp(item);
    store_.DropReadAhead();  // a second try needs a place in the arena
    started_ = cursor_;
    throw error;
  }

  bool reads_on_;  // into the next layer, once all of this one is started
  std::vector<Item> items_;
  size_t started_ = 0;        // items before it have a slot
  size_t cursor_ = 0;         // items before it were returned
  size_t returned_from_ = 0;  // those from here to the cursor by the last Next
};

StreamedStore::StreamedStore(const formats::ExpertSidecar& sidecar, const StreamOptions& options,
                             MemoryBudget& budget, const std::function<void(uint64_t)>& progress)
    : sidecar_(sidecar),
      shape_{static_cast<int32_t>(sidecar.moe_layers.size()), sidecar.experts},
      prefetch_(options.prefetch),
      heat_file_(options.heat_file),
      moe_layer_of_(static_cast<size_t>(sidecar.layers), -1),
      bank_(budget, BankRecords(sidecar, options), sidecar.layout.record_bytes, shape_,
            options.policy),
      arena_(budget, "expert_arena", ArenaRecords(sidecar, options), sidecar.layout.record_bytes,
             shape_.keys()),
      heat_(shape_.keys(), kHeatHalfLifeTokens),
      hits_(sidecar.moe_layers.size(), 0),
      misses_(sidecar.moe_layers.size(), 0) {
  for (size_t i = 0; i < sidecar_.moe_layers.size(); ++i) {
    moe_layer_of_[static_cast<size_t>(sidecar_.moe_layers[i].layer)] = static_cast<int32_t>(i);
  }
  if (!options.trace_file.empty()) {
    trace_.emplace(options.trace_file, shape_);
  }
  DirectReaderOptions reading;
  reading.buffers = {bank_.table().memory(), arena_.memory()};
  reading.queue_depth = options.queue_depth;
  reading.engine = options.io;
  reading.allow_buffered = options.allow_buffered;
  const auto places =
      static_cast<uint64_t>(bank_.table().size()) + static_cast<uint64_t>(arena_.size());
  reader_ = std::make_unique<RecordReader>(
      sidecar_, std::move(reading), places, options.wrap_reader,
      [this](std::span<RecordResult> results) { OnReadsDone(results); });
  ProbeRead();
  if (!heat_file_.empty()) {
    WarmUp(progress);
    heat_saver_ = std::thread([this] { SaveHeatLoop(); });
  }
}

StreamedStore::~StreamedStore() {
  {
    const std::lock_guard lock(mutex_);
    MACH_DCHECK(!lease_lives_);
    stop_ = true;
  }
  stopping_.notify_all();
  if (heat_saver_.joinable()) {
    heat_saver_.join();
  }
}

int32_t StreamedStore::MoeLayerOf(int32_t layer) const {
  MACH_CHECK(layer >= 0 && layer < sidecar_.layers);
  const int32_t moe_layer = moe_layer_of_[static_cast<size_t>(layer)];
  MACH_CHECK(moe_layer >= 0);
  return moe_layer;
}

std::unique_ptr<backend::ExpertLease> StreamedStore::Acquire(int32_t layer,
                                                             std::span<const int32_t> ids,
                                                             backend::ExpertUse use) {
  const int32_t moe_layer = MoeLayerOf(layer);
  const std::lock_guard lock(mutex_);
  std::unique_ptr<backend::ExpertLease> lease;
  if (use == backend::ExpertUse::kPrefill) {
    lease = std::make_unique<PrefillLease>(*this, moe_layer, ids);
  } else {
    DropReadAhead();
    if (trace_) {
      trace_->Append(moe_layer, ids);
    }
    bank_.policy().BeginLayer(moe_layer);
    if (moe_layer <= heat_layer_) {
      heat_.Tick();
    }
    heat_layer_ = moe_layer;
    for (const int32_t id : ids) {
      heat_.Add(KeyOf(moe_layer, id));
    }
    heat_changed_ = true;
    lease = std::make_unique<DecodeLease>(*this, moe_layer, ids);
  }
  EndGuesses(moe_layer);
  return lease;
}

void StreamedStore::Prefetch(int32_t layer, std::span<const int32_t> ids) {
  if (!prefetch_) {
    return;
  }
  const int32_t moe_layer = MoeLayerOf(layer);
  const std::lock_guard lock(mutex_);
  SlotTable& table = bank_.table();
  std::erase_if(guesses_, [&table](int32_t slot) { return !table.at(slot).guessed; });
  const auto limit = static_cast<size_t>(table.size() / kGuessShare);
  for (const int32_t id : ids) {
    const int32_t key = KeyOf(moe_layer, id);
    if (table.Find(key) >= 0) {
      continue;
    }
    if (guesses_.size() >= limit) {
      break;
    }
    const int32_t slot = bank_.TakeForGuess(key);
    if (slot < 0) {
      continue;
    }
    guesses_.push_back(slot);
    ++prefetches_;
    QueueRead(BankPlace(slot), key, table.record(slot), ReadPriority::kPrefetch);
  }
  SubmitReads();
}

ExpertStats StreamedStore::Stats() const {
  const RecordReaderStats read = reader_->Stats();
  ExpertStats stats;
  stats.streaming = true;
  stats.bytes_read = read.bytes_read;
  stats.read_seconds = read.read_seconds;
  stats.read_errors = read.read_errors;
  stats.direct = reader_->direct();
  stats.io = reader_->engine();
  const std::lock_guard lock(mutex_);
  stats.policy = bank_.policy().name();
  stats.experts_resident = bank_.resident();
  stats.capacity = bank_.table().size();
  stats.evictions = bank_.evictions();
  stats.prefetches = prefetches_;
  stats.prefetch_hits = prefetch_hits_;
  stats.read_ahead_dropped = read_ahead_dropped_;
  stats.stall_seconds = stall_seconds_;
  for (size_t i = 0; i < hits_.size(); ++i) {
    stats.hits += hits_[i];
    stats.misses += misses_[i];
    stats.per_layer.push_back({sidecar_.moe_layers[i].layer,
                               bank_.resident_of(static_cast<int32_t>(i)), hits_[i], misses_[i]});
  }
  return stats;
}

void StreamedStore::CountRequest(int32_t moe_layer, bool hit) {
  ++(hit ? hits_ : misses_)[static_cast<size_t>(moe_layer)];
}

void StreamedStore::Want(Slot& slot, uint64_t place) {
  slot.pinned = true;
  const bool in_bank = place < static_cast<uint64_t>(bank_.table().size());
  prefetch_hits_ += slot.guessed && in_bank ? 1 : 0;
  slot.guessed = false;
  if (slot.state == SlotState::kReading) {
    reader_->Promote(place);
  }
}

void StreamedStore::QueueRead(uint64_t place, int32_t key, std::byte* out, ReadPriority priority) {
  queued_reads_.push_back({place, key / shape_.experts, key % shape_.experts, out, priority});
}

void StreamedStore::SubmitReads() {
  reader_->Read(queued_reads_);
  queued_reads_.clear();
}

// The layer has come: what was guessed for it and is not wanted now is no guess any more.
void StreamedStore::EndGuesses(int32_t moe_layer) {
  SlotTable& table = bank_.table();
  std::erase_if(guesses_, [&](int32_t index) {
    Slot& slot = table.at(index);
    if (slot.guessed && slot.key / shape_.experts == moe_layer) {
      slot.guessed = false;
      if (slot.state == SlotState::kReading && reader_->Cancel(BankPlace(index))) {
        --prefetches_;  // it never began
        bank_.Release(index);
      }
    }
    return !slot.guessed;
  });
}

void StreamedStore::DropReadAhead() {
  if (read_ahead_.layer < 0) {
    return;
  }
  read_ahead_ = {};
  for (int32_t i = 0; i < arena_.size(); ++i) {
    Slot& slot = arena_.at(i);
    if (!slot.guessed) {
      continue;
    }
    ++read_ahead_dropped_;
    slot.guessed = false;
    if (slot.state != SlotState::kReading || reader_->Cancel(ArenaPlace(i))) {
      arena_.Release(i);
    }
  }
}

void StreamedStore::ContinueReadAhead() {
  if (read_ahead_.layer < 0) {
    return;
  }
  for (int32_t& expert = read_ahead_.next_expert; expert < shape_.experts && !arena_.full();
       ++expert) {
    const int32_t key = KeyOf(read_ahead_.layer, expert);
    if (bank_.table().Find(key) >= 0 || arena_.Find(key) >= 0) {
      continue;
    }
    const int32_t slot = arena_.Take(key);
    arena_.at(slot).guessed = true;
    QueueRead(ArenaPlace(slot), key, arena_.record(slot), ReadPriority::kPrefetch);
  }
}

void StreamedStore::WaitForRead(std::unique_lock<std::mutex>& lock) {
  const Stopwatch watch;
  read_done_.wait(lock);
  stall_seconds_ += watch.ElapsedSeconds();
}

void StreamedStore::OnReadsDone(std::span<RecordResult> results) {
  const std::lock_guard lock(mutex_);
  const auto bank_slots = static_cast<uint64_t>(bank_.table().size());
  for (RecordResult& result : results) {
    const bool in_bank = result.place < bank_slots;
    const auto index = static_cast<int32_t>(in_bank ? result.place : result.place - bank_slots);
    Slot& slot = in_bank ? bank_.table().at(index) : arena_.at(index);
    // The bank keeps what a lease given up half-way had asked for; the arena does not.
    const bool wanted = slot.pinned || (!in_bank && slot.guessed);
    if (result.error && slot.pinned) {
      slot.state = SlotState::kFailed;
      slot.error = std::move(result.error);
    } else if (in_bank) {
      result.error ? bank_.Release(index) : bank_.MarkReady(index);
    } else if (result.error || !wanted) {
      arena_.Release(index);
    } else {
      slot.state = SlotState::kReady;
    }
  }
  // While a lease lives, free places of the arena are its own to take first.
  if (!lease_lives_ && !stop_) {
    ContinueReadAhead();
    SubmitReads();
  }
  read_done_.notify_all();
}

// So that a disk that cannot be read, or a file that is not what the manifest says, is found before
// anything is served.
void StreamedStore::ProbeRead() {
  std::unique_lock lock(mutex_);
  const int32_t index = arena_.Take(0);
  Slot& slot = arena_.at(index);
  slot.pinned = true;
  QueueRead(ArenaPlace(index), 0, arena_.record(index), ReadPriority::kDemand);
  SubmitReads();
  read_done_.wait(lock, [&slot] { return slot.state != SlotState::kReading; });
  if (slot.state == SlotState::kFailed) {
    throw Error(*slot.error);
  }
  arena_.Release(index);
}

void StreamedStore::WarmUp(const std::function<void(uint64_t)>& progress) {
  const std::optional<std::vector<float>> rates = LoadHeat(heat_file_, sidecar_);
  if (!rates) {
    return;
  }
  std::vector<int32_t> keys;
  std::unique_lock lock(mutex_);
  for (int32_t key = 0; key < shape_.keys(); ++key) {
    const float rate = kHeatKeptOverRestart * (*rates)[static_cast<size_t>(key)];
    if (rate > 0) {
      heat_.SetRate(key, rate);
      bank_.policy().Seed(key, rate);
      keys.push_back(key);
    }
  }
  SlotTable& table = bank_.table();
  if (keys.size() > static_cast<size_t>(table.size())) {
    std::nth_element(keys.begin(), keys.begin() + table.size(), keys.end(),
                     [&](int32_t a, int32_t b) {
                       const float rate_a = (*rates)[static_cast<size_t>(a)];
                       const float rate_b = (*rates)[static_cast<size_t>(b)];
                       return rate_a > rate_b || (rate_a == rate_b && a < b);
                     });
    keys.resize(static_cast<size_t>(table.size()));
    std::sort(keys.begin(), keys.end());  // the order of the files
  }
  std::vector<int32_t> slots;
  for (const int32_t key : keys) {
    slots.push_back(table.Take(key));
    QueueRead(BankPlace(slots.back()), key, table.record(slots.back()), ReadPriority::kPrefetch);
  }
  SubmitReads();
  // One that cannot be read is logged by the reader, and an error once it is wanted.
  for (size_t done = 0; done < slots.size();) {
    read_done_.wait(lock, [&] { return table.at(slots[done]).state != SlotState::kReading; });
    while (done < slots.size() && table.at(slots[done]).state != SlotState::kReading) {
      ++done;
    }
    if (progress) {
      lock.unlock();
      progress(done * sidecar_.layout.record_bytes);
      lock.lock();
    }
  }
  LogInfo("expert bank warmed", {{"experts", bank_.resident()}, {"capacity", table.size()}});
}

void StreamedStore::SaveHeat() {
  if (heat_file_.empty()) {
    return;
  }
  const std::lock_guard saving(saving_mutex_);
  std::vector<float> rates(static_cast<size_t>(shape_.keys()));
  {
    const std::lock_guard lock(mutex_);
    for (int32_t key = 0; key < shape_.keys(); ++key) {
      rates[static_cast<size_t>(key)] = static_cast<float>(heat_.Rate(key));
    }
    heat_changed_ = false;
  }
  try {
    WriteHeat(heat_file_, sidecar_, rates);
  } catch (const std::exception& error) {
    // Once: a read-only checkpoint stays one.
    if (!std::exchange(heat_failed_, true)) {
      LogWarning("expert heat map not saved", {{"reason", error.what()}});
    }
  }
}

void StreamedStore::SaveHeatLoop() {
  std::unique_lock lock(mutex_);
  while (!stopping_.wait_for(lock, kHeatSaveInterval, [this] { return stop_; })) {
    if (heat_changed_) {
      lock.unlock();
      SaveHeat();
      lock.lock();
    }
  }
}

std::unique_ptr<ExpertStore> MakeStreamedStore(const formats::ExpertSidecar& sidecar,
                                               const StreamOptions& options, MemoryBudget& budget,
                                               const std::function<void(uint64_t)>& progress) {
  return std::make_unique<StreamedStore>(sidecar, options, budget, progress);
}

}  // namespace mach::experts
