#include "experts/streamed_store.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <exception>
#include <utility>

#include "base/check.h"
#include "base/clock.h"
#include "base/gigabytes.h"
#include "base/log.h"
#include "experts/streamed_lease.h"

namespace mach::experts {
namespace {

constexpr int64_t kMinArenaRecords = 4;
// Without a size: a share of the bank, at least a quarter of a layer and at most one, beyond which
// prefill does not read ahead. What a larger one gains is in docs/benchmarks.md.
constexpr int64_t kArenaShareOfBank = 16;
constexpr int64_t kLeastShareOfLayer = 4;
// Guesses hold at most this share of the bank.
constexpr int32_t kGuessShare = 4;
// Between two looks at the cancel flag.
constexpr auto kLongestWait = std::chrono::milliseconds(100);
constexpr int kMapDigits = 15;  // that say how hot an expert is

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
                "an expert cache of " + GigabytesText(options.bank_bytes) + " holds " +
                    std::to_string(records) + " experts, but one token needs " +
                    std::to_string(options.top_k) + " in a layer",
                "give --expert-cache-gb at least " +
                    GigabytesText(static_cast<uint64_t>(options.top_k) * record_bytes));
  }
  return records;
}

int64_t ArenaRecords(const formats::ExpertSidecar& sidecar, const StreamOptions& options) {
  if (options.arena_bytes == 0) {
    const int64_t layer = sidecar.experts;
    const int64_t share = BankRecords(sidecar, options) / kArenaShareOfBank;
    return std::max(std::clamp(share, layer / kLeastShareOfLayer, layer), kMinArenaRecords);
  }
  const auto records = static_cast<int64_t>(options.arena_bytes / sidecar.layout.record_bytes);
  if (records < kMinArenaRecords) {
    throw Error(ErrorCode::kInvalidArgument,
                "a prefill arena of " + GigabytesText(options.arena_bytes) + " holds " +
                    std::to_string(records) + " experts; expected at least " +
                    std::to_string(kMinArenaRecords));
  }
  return records;
}

StreamedStore::StreamedStore(const formats::ExpertSidecar& sidecar, const StreamOptions& options,
                             MemoryBudget& budget, const std::function<void(uint64_t)>& progress)
    : sidecar_(sidecar),
      shape_{static_cast<int32_t>(sidecar.moe_layers.size()), sidecar.experts},
      prefetch_(options.prefetch),
      moe_layer_of_(static_cast<size_t>(sidecar.layers), -1),
      bank_(budget, BankRecords(sidecar, options), sidecar.layout.record_bytes, shape_,
            options.policy),
      arena_(budget, "expert_arena", ArenaRecords(sidecar, options), sidecar.layout.record_bytes,
             shape_.keys()),
      layer_stats_(sidecar.moe_layers.size()),
      heat_(options.heat_file, sidecar_, shape_) {
  for (size_t i = 0; i < sidecar_.moe_layers.size(); ++i) {
    layer_stats_[i].layer = sidecar_.moe_layers[i].layer;
    moe_layer_of_[static_cast<size_t>(layer_stats_[i].layer)] = static_cast<int32_t>(i);
  }
  DirectReaderOptions reading;
  reading.buffers = {bank_.table().memory(), arena_.memory()};
  reading.how = options.read;
  const auto places =
      static_cast<uint64_t>(bank_.table().size()) + static_cast<uint64_t>(arena_.size());
  queued_reads_.reserve(places);
  guesses_.reserve(MostGuesses());
  reader_ = std::make_unique<RecordReader>(
      sidecar_, std::move(reading), places, options.open_reader,
      [this](std::span<RecordResult> results) { OnReadsDone(results); });
  ProbeRead();
  WarmUp(progress);
}

StreamedStore::~StreamedStore() {
  const std::lock_guard lock(mutex_);
  MACH_DCHECK(!lease_lives_);
  stop_ = true;
}

int32_t StreamedStore::MoeLayerOf(int32_t layer) const {
  MACH_CHECK(layer >= 0 && layer < sidecar_.layers);
  const int32_t moe_layer = moe_layer_of_[static_cast<size_t>(layer)];
  MACH_CHECK(moe_layer >= 0);
  return moe_layer;
}

std::unique_ptr<backend::ExpertLease> StreamedStore::Acquire(
    int32_t layer, std::span<const backend::WantedExpert> wanted, int64_t tokens,
    backend::ExpertUse use) {
  const int32_t moe_layer = MoeLayerOf(layer);
  std::unique_ptr<Lease> lease;
  if (use == backend::ExpertUse::kDecode) {
    lease = std::make_unique<DecodeLease>(*this, moe_layer);
  } else {
    lease =
        std::make_unique<PrefillLease>(*this, moe_layer, use == backend::ExpertUse::kPrefillMore);
  }
  // Let go before a lease that could not start ends, which takes it.
  const std::lock_guard lock(mutex_);
  MACH_CHECK(!lease_lives_);
  lease_lives_ = true;
  if (use == backend::ExpertUse::kDecode) {
    bank_.policy().BeginLayer(moe_layer, tokens);
    heat_.Use(moe_layer, wanted, tokens);
  }
  lease->Start(wanted);
  EndGuesses(moe_layer);
  return lease;
}

size_t StreamedStore::MostGuesses() const {
  return static_cast<size_t>(bank_.table().size() / kGuessShare);
}

void StreamedStore::Prefetch(int32_t layer, std::span<const int32_t> ids) {
  if (!prefetch_) {
    return;
  }
  const int32_t moe_layer = MoeLayerOf(layer);
  const std::lock_guard lock(mutex_);
  SlotTable& table = bank_.table();
  std::erase_if(guesses_, [&table](int32_t slot) { return !table.at(slot).guessed; });
  for (const int32_t id : ids) {
    const int32_t key = KeyOf(moe_layer, id);
    if (table.Find(key) >= 0) {
      continue;
    }
    if (guesses_.size() >= MostGuesses()) {
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
  stats.records_checked = read.records_checked;
  stats.direct = reader_->direct();
  stats.io = reader_->engine();
  const std::lock_guard lock(mutex_);
  stats.policy = bank_.policy().name();
  stats.experts_resident = bank_.resident();
  stats.capacity = bank_.table().size();
  stats.arena_capacity = arena_.size();
  stats.evictions = bank_.evictions();
  stats.prefetches = prefetches_;
  stats.prefetch_hits = prefetch_hits_;
  stats.read_ahead_dropped = read_ahead_dropped_;
  stats.stall_seconds = stall_seconds_;
  for (size_t i = 0; i < layer_stats_.size(); ++i) {
    LayerStats layer = layer_stats_[i];
    layer.resident = bank_.resident_of(static_cast<int32_t>(i));
    stats.AddLayer(layer);
  }
  return stats;
}

std::vector<std::string> StreamedStore::Map() const {
  std::vector<std::string> map(static_cast<size_t>(shape_.layers),
                               std::string(static_cast<size_t>(shape_.experts), '0'));
  const std::vector<double> uses = heat_.Uses();
  const double most = *std::ranges::max_element(uses);
  const std::lock_guard lock(mutex_);
  for (int32_t i = 0; i < bank_.table().size(); ++i) {
    const Slot& slot = bank_.table().at(i);
    if (slot.state != SlotState::kReady) {
      continue;
    }
    const double share = most > 0 ? uses[static_cast<size_t>(slot.key)] / most : 0;
    const int below = share > 0 ? static_cast<int>(-2 * std::log2(share)) : kMapDigits;
    map[static_cast<size_t>(slot.key / shape_.experts)]
       [static_cast<size_t>(slot.key % shape_.experts)] =
           "0123456789abcdef"[std::max(kMapDigits - below, 1)];
  }
  return map;
}

void StreamedStore::Want(SlotTable& table, int32_t slot, uint64_t place, ReadPriority priority) {
  prefetch_hits_ += table.at(slot).guessed && &table == &bank_.table() ? 1 : 0;
  table.EndGuess(slot);
  if (table.at(slot).state == SlotState::kReading) {
    reader_->Promote(place, priority);
  }
}

void StreamedStore::QueueRead(uint64_t place, int32_t key, std::byte* out, ReadPriority priority) {
  queued_reads_.push_back({place, key / shape_.experts, key % shape_.experts, out, priority});
}

void StreamedStore::SubmitReads() {
  try {
    reader_->Read(queued_reads_);
  } catch (const std::exception&) {
    for (const RecordRead& read : queued_reads_) {
      EndRead(read.place, not_queued_);
    }
  }
  queued_reads_.clear();
}

// This layer is now being executed, so its unused prefetches are stale: cancel those still queued,
// treat the rest as ordinary entries.
void StreamedStore::EndGuesses(int32_t moe_layer) {
  SlotTable& table = bank_.table();
  std::erase_if(guesses_, [&](int32_t index) {
    const Slot& slot = table.at(index);
    if (slot.guessed && slot.key / shape_.experts == moe_layer) {
      table.EndGuess(index);
      if (slot.state == SlotState::kReading && reader_->Cancel(BankPlace(index))) {
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
    if (!arena_.at(i).guessed) {
      continue;
    }
    ++read_ahead_dropped_;
    arena_.EndGuess(i);
    if (arena_.at(i).state != SlotState::kReading || reader_->Cancel(ArenaPlace(i))) {
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
    arena_.MarkGuessed(slot);
    QueueRead(ArenaPlace(slot), key, arena_.record(slot), ReadPriority::kPrefetch);
  }
}

void StreamedStore::WaitForRead(std::unique_lock<std::mutex>& lock,
                                const std::atomic<bool>* cancel) {
  if (cancel != nullptr && cancel->load(std::memory_order_relaxed)) {
    throw Error(ErrorCode::kCancelled, "the request was cancelled");
  }
  const Stopwatch watch;
  read_done_.wait_for(lock, kLongestWait);
  stall_seconds_ += watch.ElapsedSeconds();
}

void StreamedStore::OnReadsDone(std::span<RecordResult> results) {
  const std::lock_guard lock(mutex_);
  for (RecordResult& result : results) {
    EndRead(result.place, std::move(result.error));
  }
  // While a lease lives, free places of the arena are its own to take first.
  if (!lease_lives_ && !stop_) {
    ContinueReadAhead();
    SubmitReads();
  }
  read_done_.notify_all();
}

void StreamedStore::EndRead(uint64_t place, std::optional<Error> error) {
  const auto bank_slots = static_cast<uint64_t>(bank_.table().size());
  const bool in_bank = place < bank_slots;
  const auto index = static_cast<int32_t>(in_bank ? place : place - bank_slots);
  SlotTable& table = in_bank ? bank_.table() : arena_;
  const Slot& slot = table.at(index);
  if (error && slot.pinned) {
    table.Fail(index, std::move(*error));
  } else if (in_bank) {
    // The bank keeps what a lease given up half-way had asked for; the arena does not.
    error ? bank_.Release(index) : bank_.MarkReady(index);
  } else if (error || !(slot.pinned || slot.guessed)) {
    arena_.Release(index);
  } else {
    arena_.MarkReady(index);
  }
}

// So that a disk that cannot be read, or a file that is not what the manifest says, is found before
// anything is served.
void StreamedStore::ProbeRead() {
  std::unique_lock lock(mutex_);
  const int32_t index = arena_.Take(0);
  const Slot& slot = arena_.at(index);
  arena_.Pin(index);
  QueueRead(ArenaPlace(index), 0, arena_.record(index), ReadPriority::kDemand);
  SubmitReads();
  read_done_.wait(lock, [&slot] { return slot.state != SlotState::kReading; });
  if (slot.state == SlotState::kFailed) {
    throw Error(*slot.error);
  }
  arena_.Unpin(index);
  arena_.Release(index);
}

void StreamedStore::WarmUp(const std::function<void(uint64_t)>& progress) {
  for (int32_t key = 0; key < shape_.keys(); ++key) {
    if (const double rate = heat_.Rate(key); rate > 0) {
      bank_.policy().Seed(key, rate);
    }
  }
  SlotTable& table = bank_.table();
  const std::vector<int32_t> keys = heat_.Hottest(table.size());
  if (keys.empty()) {
    return;
  }
  std::unique_lock lock(mutex_);
  std::vector<int32_t> slots;
  for (const int32_t key : keys) {
    slots.push_back(table.Take(key));
    table.Pin(slots.back());  // so that a failure is kept
    QueueRead(BankPlace(slots.back()), key, table.record(slots.back()), ReadPriority::kPrefetch);
  }
  SubmitReads();
  for (size_t done = 0; done < slots.size();) {
    read_done_.wait(lock, [&] { return table.at(slots[done]).state != SlotState::kReading; });
    for (; done < slots.size() && table.at(slots[done]).state != SlotState::kReading; ++done) {
      const Slot& slot = table.at(slots[done]);
      if (slot.state == SlotState::kFailed) {
        throw Error(*slot.error);
      }
      table.Unpin(slots[done]);
    }
    if (progress) {
      lock.unlock();
      progress(done * sidecar_.layout.record_bytes);
      lock.lock();
    }
  }
  lock.unlock();
  LogInfo("expert bank warmed", {{"experts", slots.size()}, {"capacity", table.size()}});
}

std::unique_ptr<ExpertStore> MakeStreamedStore(const formats::ExpertSidecar& sidecar,
                                               const StreamOptions& options, MemoryBudget& budget,
                                               const std::function<void(uint64_t)>& progress) {
  return std::make_unique<StreamedStore>(sidecar, options, budget, progress);
}

}  // namespace mach::experts
