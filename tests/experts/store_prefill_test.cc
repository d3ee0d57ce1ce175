// How prefill streams through a store: past the bank, ahead of itself, with decode steps between.
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "experts/expert_store.h"
#include "tests/experts/small_store.h"
#include "tests/support/acquire.h"
#include "tests/support/faulty_reader.h"
#include "tests/support/test_sidecar.h"

namespace mach::experts {
namespace {

using backend::ExpertUse;
using testing_support::Acquire;
using testing_support::InjectFaults;
using testing_support::ReadFault;
using testing_support::TestSidecar;

TEST(StreamedStore, PrefillLeavesTheBankAlone) {
  TestSidecar sidecar(kLayers, kExperts);
  MemoryBudget budget;
  const auto store = Make(sidecar, OptionsFor(8), budget);
  Use(sidecar, *store, 1, {0, 9, 20, 31});
  for (int32_t layer = 1; layer <= kLayers; ++layer) {
    Use(sidecar, *store, layer, AllExperts(), ExpertUse::kPrefill);
  }
  const ExpertStats stats = store->Stats();
  EXPECT_EQ(stats.evictions, 0);
  EXPECT_EQ(stats.experts_resident, 4);
  // Each record once: what was read ahead for the next layer is used there. The first one was read
  // when the store was made.
  EXPECT_EQ(stats.bytes_read, (kLayers * kExperts + 1) * kRecordBytes);
  EXPECT_EQ(stats.read_ahead_dropped, 0);
  // Nor do its requests count as the bank's.
  EXPECT_EQ(stats.hits, 0);
  EXPECT_EQ(stats.misses, 4);
  EXPECT_EQ(stats.prefill_hits + stats.prefill_misses, kLayers * kExperts);
  EXPECT_GE(stats.prefill_hits, 4);  // what the bank had is used
  EXPECT_GT(stats.prefill_misses, 0);
  Use(sidecar, *store, 1, {0, 9, 20, 31});
  EXPECT_EQ(store->Stats().hits, 4);
  EXPECT_EQ(store->Stats().misses, 4);
}

TEST(StreamedStore, DropsWhatWasReadAheadInVain) {
  TestSidecar sidecar(kLayers, kExperts);
  MemoryBudget budget;
  StreamOptions options = OptionsFor(8);
  options.arena_bytes = 12 * kRecordBytes;
  const auto store = Make(sidecar, options, budget);
  Use(sidecar, *store, 1, AllExperts(), ExpertUse::kPrefill);
  Use(sidecar, *store, 2, {30, 31}, ExpertUse::kPrefill);
  EXPECT_EQ(store->Stats().read_ahead_dropped, 12);
  Use(sidecar, *store, 2, AllExperts(), ExpertUse::kPrefill);
  Use(sidecar, *store, 3, {1, 2});
  EXPECT_EQ(store->Stats().read_ahead_dropped, 12);  // decoding leaves it
  Use(sidecar, *store, 4, {1, 2}, ExpertUse::kPrefill);
  EXPECT_EQ(store->Stats().read_ahead_dropped, 24);
  Use(sidecar, *store, 4, AllExperts(), ExpertUse::kPrefill);
  EXPECT_EQ(store->Stats().read_ahead_dropped, 24);
}

// Counts the reads that the store asks for, by layer of the model and expert.
class ReadCounter {
 public:
  std::unique_ptr<DirectReader> Open(const DirectReaderOptions& reading) {
    return InjectFaults(OpenDirectReader(reading), [this](uint64_t, const ReadRequest& request) {
      const std::lock_guard lock(mutex_);
      ++counts_[{request.file + 1, static_cast<int32_t>(request.offset_bytes / kRecordBytes)}];
      return ReadFault::kNone;
    });
  }
  int Of(int32_t layer, int32_t expert) const {
    const std::lock_guard lock(mutex_);
    const auto found = counts_.find({layer, expert});
    return found == counts_.end() ? 0 : found->second;
  }
  int OfLayer(int32_t layer) const {
    int sum = 0;
    for (int32_t expert = 0; expert < kExperts; ++expert) {
      sum += Of(layer, expert);
    }
    return sum;
  }

 private:
  mutable std::mutex mutex_;
  std::map<std::pair<int32_t, int32_t>, int> counts_;
};

TEST(StreamedStore, DecodeStepsBetweenTheLayersOfAChunkCostItNoRead) {
  TestSidecar sidecar(kLayers, kExperts);
  MemoryBudget budget;
  ReadCounter reads;
  StreamOptions options = OptionsFor(2 * kLayers);
  options.arena_bytes = kExperts * kRecordBytes;
  options.open_reader = [&](const DirectReaderOptions& reading) { return reads.Open(reading); };
  const auto store = Make(sidecar, options, budget);
  ASSERT_EQ(reads.Of(1, 0), 1);  // the first record is read to see that it can be
  for (int32_t layer = 1; layer <= kLayers; ++layer) {
    Use(sidecar, *store, layer, AllExperts(), ExpertUse::kPrefill);
    for (int32_t decoded = 1; decoded <= kLayers; ++decoded) {
      Use(sidecar, *store, decoded, {30, 31});
    }
  }
  for (int32_t layer = 1; layer <= kLayers; ++layer) {
    // Into the bank too, where the arena had them already; later layers find them there.
    EXPECT_EQ(reads.Of(layer, 31), layer <= 2 ? 2 : 1) << layer;
    EXPECT_EQ(reads.OfLayer(layer), kExperts + (layer <= 2 ? 2 : 0) + (layer == 1 ? 1 : 0));
  }
  EXPECT_EQ(store->Stats().read_ahead_dropped, 2);
}

TEST(StreamedStore, ReadsAheadOfTheNextChunkWhereOneComes) {
  TestSidecar sidecar(kLayers, kExperts);
  for (const ExpertUse use : {ExpertUse::kPrefill, ExpertUse::kPrefillMore}) {
    MemoryBudget budget;
    ReadCounter reads;
    StreamOptions options = OptionsFor(8);
    options.arena_bytes = kExperts * kRecordBytes;
    options.open_reader = [&](const DirectReaderOptions& reading) { return reads.Open(reading); };
    const auto store = Make(sidecar, options, budget);
    const auto chunk = [&](ExpertUse chunk_use) {
      for (int32_t layer = 1; layer <= kLayers; ++layer) {
        Use(sidecar, *store, layer, AllExperts(), chunk_use);
      }
    };
    chunk(use);
    const int first_chunk = kExperts + 1;
    EXPECT_EQ(reads.OfLayer(1), first_chunk + (use == ExpertUse::kPrefill ? 0 : kExperts));
    Use(sidecar, *store, 1, {7});  // into the bank, too late for what is read ahead
    chunk(ExpertUse::kPrefill);
    EXPECT_EQ(reads.OfLayer(1), first_chunk + kExperts + (use == ExpertUse::kPrefill ? 0 : 1));
    EXPECT_EQ(reads.OfLayer(2), 2 * kExperts);
  }
}

TEST(StreamedStore, WhatDecodingWaitsForIsReadFirst) {
  TestSidecar sidecar(kLayers, kExperts);
  MemoryBudget budget;
  std::mutex mutex;
  std::set<std::pair<int32_t, ReadPriority>> seen;  // by layer of the model
  StreamOptions options = OptionsFor(8);
  options.open_reader = [&](const DirectReaderOptions& reading) {
    return InjectFaults(OpenDirectReader(reading), [&](uint64_t, const ReadRequest& request) {
      const std::lock_guard lock(mutex);
      seen.insert({request.file + 1, request.priority});
      return ReadFault::kNone;
    });
  };
  const auto store = Make(sidecar, options, budget);
  Use(sidecar, *store, 2, {1, 2});
  Use(sidecar, *store, 3, AllExperts(), ExpertUse::kPrefill);
  const std::lock_guard lock(mutex);
  EXPECT_THAT(seen, testing::ElementsAre(testing::Pair(1, ReadPriority::kDemand),  // the first one
                                         testing::Pair(2, ReadPriority::kUrgent),
                                         testing::Pair(3, ReadPriority::kDemand),
                                         testing::Pair(4, ReadPriority::kPrefetch)));
}

TEST(StreamedStore, ALayerGivenUpHalfWayEndsTheReadAhead) {
  TestSidecar sidecar(kLayers, kExperts);
  MemoryBudget budget;
  ReadCounter reads;
  StreamOptions options = OptionsFor(8);
  options.arena_bytes = 12 * kRecordBytes;
  options.open_reader = [&](const DirectReaderOptions& reading) { return reads.Open(reading); };
  const auto store = Make(sidecar, options, budget);
  int read_ahead = 0;
  {
    const auto lease = Acquire(*store, 2, AllExperts(), ExpertUse::kPrefill);
    while (read_ahead == 0) {  // begins before the last experts are returned
      ASSERT_FALSE(lease->Next(nullptr).empty());
      read_ahead = reads.OfLayer(3);
    }
  }
  EXPECT_EQ(reads.OfLayer(3), read_ahead);
  EXPECT_EQ(store->Stats().read_ahead_dropped, read_ahead);
  Use(sidecar, *store, 1, AllExperts(), ExpertUse::kPrefill);
  EXPECT_EQ(reads.OfLayer(3), read_ahead);
}

}  // namespace
}  // namespace mach::experts
