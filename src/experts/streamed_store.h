// The streamed ExpertStore: a bounded bank for decoding, a transient arena for prefill, one reader.
// Private to experts/; made by MakeStreamedStore.
//
// One mutex guards all state. The inference thread takes it in Acquire, Prefetch and the leases'
// Next; the record reader's thread when reads end; Stats from anywhere. Nobody holds it while
// reading, checking or computing. The reader's thread ends with the store.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "experts/expert_bank.h"
#include "experts/expert_store.h"
#include "experts/heat_map.h"
#include "experts/record_reader.h"

namespace mach::experts {

class StreamedStore final : public ExpertStore {
 public:
  StreamedStore(const formats::ExpertSidecar& sidecar, const StreamOptions& options,
                MemoryBudget& budget, const std::function<void(uint64_t)>& progress);
  StreamedStore(const StreamedStore&) = delete;
  StreamedStore& operator=(const StreamedStore&) = delete;
  ~StreamedStore() override;

  const ExpertLayout& layout() const override { return sidecar_.layout; }
  int32_t layers() const override { return sidecar_.layers; }
  int32_t experts() const override { return sidecar_.experts; }
  std::unique_ptr<backend::ExpertLease> Acquire(int32_t layer,
                                                std::span<const backend::WantedExpert> wanted,
                                                int64_t tokens, backend::ExpertUse use) override;
  void Prefetch(int32_t layer, std::span<const int32_t> ids) override;
  bool prefetches() const override { return prefetch_; }
  ExpertStats Stats() const override;
  std::vector<std::string> Map() const override;
  void SaveHeat() override { heat_.Save(); }

 private:
  class Lease;  // streamed_lease.h
  class DecodeLease;
  class PrefillLease;

  // Where prefill reads on beyond its last layer. It stays while decode steps come between; the
  // next prefill layer drops what it does not want of it.
  struct ReadAhead {
    int32_t layer = -1;  // counted over MoE layers; -1: nothing
    int32_t next_expert = 0;
  };

  int32_t KeyOf(int32_t moe_layer, int32_t expert) const {
    return moe_layer * sidecar_.experts + expert;
  }
  int32_t MoeLayerOf(int32_t layer) const;  // MACH_CHECKs that it has experts
  size_t MostGuesses() const;

  // In the constructor, after the reader has started.
  void ProbeRead();
  void WarmUp(const std::function<void(uint64_t)>& progress);

  // On the reader's thread.
  void OnReadsDone(std::span<RecordResult> results);

  // Places of the record reader: slots of the bank, then those of the arena.
  uint64_t BankPlace(int32_t slot) const { return static_cast<uint64_t>(slot); }
  uint64_t ArenaPlace(int32_t slot) const {
    return static_cast<uint64_t>(bank_.table().size()) + static_cast<uint64_t>(slot);
  }

  // With mutex_ held, as all below.

  // A pinned slot is wanted: it is no guess, and its read has this priority at least.
  void Want(SlotTable& table, int32_t slot, uint64_t place, ReadPriority priority);
  void QueueRead(uint64_t place, int32_t key, std::byte* out, ReadPriority priority);
  // Never throws: reads that cannot be submitted have failed.
  void SubmitReads();
  // The slot is ready, failed if somebody waits for it, or else free.
  void EndRead(uint64_t place, std::optional<Error> error);
  void EndGuesses(int32_t moe_layer);
  void DropReadAhead();
  void ContinueReadAhead();
  // Until something has ended, or a tenth of a second. Throws kCancelled if `cancel` (null =
  // nothing) is true.
  void WaitForRead(std::unique_lock<std::mutex>& lock, const std::atomic<bool>* cancel);

  const formats::ExpertSidecar sidecar_;
  const CacheShape shape_;
  const bool prefetch_;
  const Error not_queued_{ErrorCode::kIo, "experts cannot be read: no memory for the request"};
  std::vector<int32_t> moe_layer_of_;  // [layers], -1: has no experts

  mutable std::mutex mutex_;  // of what follows, up to stop_
  std::condition_variable read_done_;
  ExpertBank bank_;
  SlotTable arena_;
  bool lease_lives_ = false;
  ReadAhead read_ahead_;
  // Slots of the bank that were taken on a guess; may have ended. Never grows beyond what it was
  // made for, as queued_reads_, so that nothing fails between taking a slot and reading into it.
  std::vector<int32_t> guesses_;
  std::vector<RecordRead> queued_reads_;  // of one call, for the reader; has room for all places
  std::vector<LayerStats> layer_stats_;   // [MoE layers]; what is resident, the bank knows
  int64_t prefetches_ = 0;
  int64_t prefetch_hits_ = 0;
  int64_t read_ahead_dropped_ = 0;
  double stall_seconds_ = 0;
  bool stop_ = false;

  HeatMap heat_;
  std::unique_ptr<RecordReader> reader_;  // its thread calls OnReadsDone
};

}  // namespace mach::experts
