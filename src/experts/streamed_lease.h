// The leases of a StreamedStore: how the experts of one layer arrive, in decode and in prefill.
// Private to experts/.
//
// At most one lease lives at a time. It is made in two steps, so that a failure at any point leaves
// it to its destructor, which gives back what it has: the constructor touches nothing of the store;
// Start wants the store's mutex held; Next and the destructor take it.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "experts/streamed_store.h"

namespace mach::experts {

class StreamedStore::Lease : public backend::ExpertLease {
 public:
  Lease(StreamedStore& store, int32_t moe_layer) : store_(store), moe_layer_(moe_layer) {}
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  ~Lease() override = default;

  // Marks those experts that are there and begins to read the others.
  virtual void Start(std::span<const backend::WantedExpert> wanted) = 0;

 protected:
  LayerStats& stats() { return store_.layer_stats_[static_cast<size_t>(moe_layer_)]; }

  StreamedStore& store_;
  const int32_t moe_layer_;
  std::vector<backend::ReadyExpert> ready_;  // what the last Next returned
};

// Experts of a decode step, as they arrive. Those that find no slot wait until this lease has given
// some up: each call of Next unpins what the one before returned, so even a bank of top_k slots
// serves any number.
class StreamedStore::DecodeLease final : public Lease {
 public:
  using Lease::Lease;
  DecodeLease(const DecodeLease&) = delete;
  DecodeLease& operator=(const DecodeLease&) = delete;
  ~DecodeLease() override;

  void Start(std::span<const backend::WantedExpert> wanted) override;
  std::span<const backend::ReadyExpert> Next(const std::atomic<bool>* cancel) override;

 private:
  void UnpinReturned();
  void StartPending();
  bool CollectReady();
  void ThrowFailure();

  // Together they never hold more than was asked for, so nothing grows after Start has reserved.
  std::vector<int32_t> pending_;   // ids without a slot
  std::vector<int32_t> waiting_;   // slots, pinned, not returned yet
  std::vector<int32_t> returned_;  // slots, pinned, of the last Next
};

// Experts of a prefill chunk, in ascending order. What the bank has is used from there; the rest
// goes through the arena, as far ahead as it has room.
class StreamedStore::PrefillLease final : public Lease {
 public:
  // `more`: after the last layer comes the first of another chunk.
  PrefillLease(StreamedStore& store, int32_t moe_layer, bool more)
      : Lease(store, moe_layer), more_(more) {}
  PrefillLease(const PrefillLease&) = delete;
  PrefillLease& operator=(const PrefillLease&) = delete;
  ~PrefillLease() override;

  void Start(std::span<const backend::WantedExpert> wanted) override;
  std::span<const backend::ReadyExpert> Next(const std::atomic<bool>* cancel) override;

 private:
  enum class Source : uint8_t { kNone, kBank, kArena };
  struct Item {
    int32_t id;
    Source source;
    int32_t slot;  // pinned
  };

  SlotTable& TableOf(Source source);
  const Slot& SlotOf(const Item& item) { return TableOf(item.source).at(item.slot); }
  uint64_t PlaceOf(const Item& item) const;
  bool IsReady(const Item& item);
  void StartReads();
  void StartReadAhead();
  bool TakeBackLast();
  void GiveUp(Item& item);
  void ThrowFailure(Item& item);

  const bool more_;
  bool reads_on_ = false;  // into the next layer, once all of this one is started
  std::vector<Item> items_;
  size_t started_ = 0;        // items before it have a slot
  size_t cursor_ = 0;         // items before it were returned
  size_t returned_from_ = 0;  // those from here to the cursor by the last Next
};

}  // namespace mach::experts
