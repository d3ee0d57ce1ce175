#include "experts/expert_store.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/clock.h"
#include "base/error.h"
#include "tests/experts/small_store.h"
#include "tests/support/acquire.h"
#include "tests/support/faulty_reader.h"
#include "tests/support/forwarding_reader.h"
#include "tests/support/test_sidecar.h"

namespace mach::experts {
namespace {

using backend::ExpertUse;
using testing_support::Acquire;
using testing_support::ForwardingReader;
using testing_support::InjectFaults;
using testing_support::ReadFault;
using testing_support::TestSidecar;

struct Workload {
  std::string io = "pread";
  std::string policy = "lru";
  int64_t bank_records = kTopK;
  bool prefetch = false;
  int faults_percent = 0;  // late, short and failing reads; never one that is tried again
};

std::string NameOf(const testing::TestParamInfo<Workload>& info) {
  const Workload& w = info.param;
  return w.io + "_" + w.policy + "_" + std::to_string(w.bank_records) +
         (w.prefetch ? "_prefetch" : "") + (w.faults_percent > 0 ? "_faults" : "");
}

class RandomWorkload : public testing::TestWithParam<Workload> {};

TEST_P(RandomWorkload, ReturnsTheRightBytesAndLeaksNoSlot) {
  const Workload& workload = GetParam();
  TestSidecar sidecar(kLayers, kExperts);
  MemoryBudget budget;
  StreamOptions options = OptionsFor(workload.bank_records);
  options.read.engine = workload.io;
  options.policy = workload.policy;
  options.prefetch = workload.prefetch;
  options.arena_bytes = 6 * kRecordBytes;
  if (workload.faults_percent > 0) {
    options.open_reader = [&](const DirectReaderOptions& reading) {
      auto random = std::make_shared<std::mt19937>(5);
      auto failed = std::make_shared<std::set<uint64_t>>();  // tags
      return InjectFaults(
          OpenDirectReader(reading), [=](uint64_t index, const ReadRequest& request) {
            // A second failure would be an error of the store, and rightly so. The second try has
            // the tag of the first. A flipped bit is only noticed in the first read of a record.
            const bool retry = failed->erase(request.tag) > 0;
            if (index == 0 || static_cast<int>((*random)() % 100) >= workload.faults_percent) {
              return ReadFault::kNone;
            }
            const auto fault = static_cast<ReadFault>(1 + (*random)() % 3);
            if (fault == ReadFault::kLate) {
              return fault;
            }
            if (retry) {
              return ReadFault::kNone;
            }
            failed->insert(request.tag);
            return fault;
          });
    };
  }
  {
    const auto store = Make(sidecar, options, budget);
    std::mt19937 random(11);
    int64_t requests = 0;
    int64_t prefill_requests = 0;
    int32_t layer = 0;
    for (int i = 0; i < 10000; ++i) {
      layer = layer % kLayers + 1;
      const bool prefill = random() % 40 == 0;
      // Now and then more than the bank holds.
      const int32_t count = prefill              ? kExperts - static_cast<int32_t>(random() % 12)
                            : random() % 10 == 0 ? 1 + static_cast<int32_t>(random() % kExperts)
                                                 : kTopK;
      const std::vector<int32_t> ids = RandomIds(random, count);
      const ExpertUse use = prefill ? ExpertUse::kPrefill : ExpertUse::kDecode;
      (prefill ? prefill_requests : requests) += count;
      const auto lease = Acquire(*store, layer, ids, use);
      if (random() % 3 == 0) {
        store->Prefetch(layer % kLayers + 1, RandomIds(random, kTopK));
      }
      if (random() % 8 == 0) {  // given up half-way
        for (uint64_t calls = random() % 3; calls > 0; --calls) {
          for (const backend::ReadyExpert& expert : lease->Next(nullptr)) {
            ASSERT_TRUE(sidecar.Matches(layer, expert.id, expert.record));
          }
        }
        continue;
      }
      Drain(sidecar, *lease, layer, ids, use);
      if (HasFatalFailure()) {
        return;
      }
    }
    const ExpertStats stats = store->Stats();
    EXPECT_EQ(stats.hits + stats.misses, requests);
    EXPECT_EQ(stats.prefill_hits + stats.prefill_misses, prefill_requests);
    EXPECT_EQ(stats.capacity, workload.bank_records);
    EXPECT_LE(stats.prefetch_hits, stats.prefetches);
    EXPECT_EQ(stats.prefetches > 0, workload.prefetch && workload.bank_records > kTopK - 1);
    EXPECT_EQ(stats.read_errors > 0, workload.faults_percent > 0);
    EXPECT_EQ(stats.io, workload.io);
    EXPECT_EQ(stats.policy, workload.policy);
    int64_t resident = 0;
    int64_t hits = 0;
    int64_t prefill_misses = 0;
    for (const LayerStats& of_layer : stats.per_layer) {
      resident += of_layer.resident;
      hits += of_layer.hits;
      prefill_misses += of_layer.prefill_misses;
    }
    EXPECT_EQ(resident, stats.experts_resident);
    EXPECT_EQ(hits, stats.hits);
    EXPECT_EQ(prefill_misses, stats.prefill_misses);
    EXPECT_LE(stats.experts_resident, stats.capacity);
    // No slot is lost: one step can still fill the bank. Reads that nobody waits for any more may
    // hold slots at first; then the step is served in waves, which read from disk, until they end.
    if (workload.bank_records <= kExperts) {
      const std::vector<int32_t> ids =
          RandomIds(random, static_cast<int32_t>(workload.bank_records));
      const Stopwatch watch;
      while (store->Stats().experts_resident < stats.capacity && watch.ElapsedSeconds() < 60) {
        Use(sidecar, *store, 1, ids);
      }
      ASSERT_EQ(store->Stats().experts_resident, stats.capacity);
      Use(sidecar, *store, 1, ids);
      const int64_t misses = store->Stats().misses;
      Use(sidecar, *store, 1, ids);
      EXPECT_EQ(store->Stats().misses, misses);
    }
    Use(sidecar, *store, 2, AllExperts(), ExpertUse::kPrefill);
  }
  EXPECT_EQ(budget.TotalBytes(), 0U);
}

INSTANTIATE_TEST_SUITE_P(Store, RandomWorkload,
                         testing::Values(Workload{"pread", "lru", kTopK},
                                         Workload{"io_uring", "lru", kTopK},
                                         Workload{"io_uring", "lfu", kTopK, true},
                                         Workload{"pread", "lfu", 20, true},
                                         Workload{"io_uring", "next_use", 20, true},
                                         Workload{"io_uring", "next_use", 20, false, 20},
                                         Workload{"pread", "lru", 20, true, 20},
                                         Workload{"io_uring", "lru", kTopK, true, 40},
                                         Workload{"io_uring", "lfu", kLayers* kExperts, true},
                                         Workload{"pread", "next_use", kLayers* kExperts}),
                         NameOf);

TEST(StreamedStore, BooksWhatItSaysAndFreesIt) {
  TestSidecar sidecar(kLayers, kExperts);
  MemoryBudget budget;
  StreamOptions options = OptionsFor(40);
  options.arena_bytes = 8 * kRecordBytes + 100;
  const auto store = Make(sidecar, options, budget);
  EXPECT_EQ(BankRecords(sidecar.value(), options), 40);
  EXPECT_EQ(ArenaRecords(sidecar.value(), options), 8);
  EXPECT_THAT(budget.BytesByOwner(),
              testing::ElementsAre(testing::Pair("expert_arena", 8 * kRecordBytes),
                                   testing::Pair("expert_bank", 40 * kRecordBytes)));
  EXPECT_EQ(BankRecords(sidecar.value(), OptionsFor(100000)), kLayers * kExperts);
}

TEST(StreamedStore, CountsHitsMissesAndEvictions) {
  TestSidecar sidecar(kLayers, kExperts);
  MemoryBudget budget;
  const auto store = Make(sidecar, OptionsFor(8), budget);
  const uint64_t probed = store->Stats().bytes_read;
  Use(sidecar, *store, 1, {0, 1, 2, 3});
  Use(sidecar, *store, 2, {0, 1, 2, 3});
  Use(sidecar, *store, 1, {0, 1, 2, 3});
  ExpertStats stats = store->Stats();
  EXPECT_EQ(stats.hits, 4);
  EXPECT_EQ(stats.misses, 8);
  EXPECT_EQ(stats.evictions, 0);
  EXPECT_EQ(stats.experts_resident, 8);
  EXPECT_EQ(stats.bytes_read - probed, 8 * kRecordBytes);
  EXPECT_GT(stats.read_seconds, 0);
  Use(sidecar, *store, 3, {5});
  stats = store->Stats();
  EXPECT_EQ(stats.evictions, 1);
  EXPECT_EQ(stats.per_layer[1].resident, 3);  // of layer 2, used before layer 1
  EXPECT_EQ(stats.per_layer[1].layer, 2);
}

TEST(StreamedStore, TheMapShowsWhatIsInTheBankAndHowHotItIs) {
  TestSidecar sidecar(kLayers, kExperts);
  MemoryBudget budget;
  const auto store = Make(sidecar, OptionsFor(8), budget);
  const std::string nothing(kExperts, '0');
  EXPECT_THAT(store->Map(), testing::SizeIs(kLayers));
  EXPECT_THAT(store->Map(), testing::Each(nothing));
  for (int i = 0; i < 3; ++i) {
    Use(sidecar, *store, 1, {0, 2});
  }
  Use(sidecar, *store, 2, {3});
  std::string hot = nothing;
  hot[0] = hot[2] = 'f';
  std::string warm = nothing;
  warm[3] = 'c';  // a third as often
  EXPECT_EQ(store->Map()[0], hot);
  EXPECT_EQ(store->Map()[1], warm);
  EXPECT_EQ(store->Map()[2], nothing);
}

TEST(StreamedStore, GuessesAreReadIntoTheBankAndCounted) {
  TestSidecar sidecar(kLayers, kExperts);
  MemoryBudget budget;
  StreamOptions options = OptionsFor(16);
  EXPECT_FALSE(Make(sidecar, options, budget)->prefetches());
  options.prefetch = true;
  const auto store = Make(sidecar, options, budget);
  EXPECT_TRUE(store->prefetches());
  store->Prefetch(2, std::vector<int32_t>{3, 4, 5, 6, 7, 8});
  EXPECT_EQ(store->Stats().prefetches, 4);  // at most a quarter of the bank
  Use(sidecar, *store, 2, {3, 4, 9});
  const ExpertStats stats = store->Stats();
  EXPECT_EQ(stats.prefetch_hits, 2);
  EXPECT_EQ(stats.hits + stats.misses, 3);
  EXPECT_EQ(stats.prefetches, 4);
  // The wrong guesses are ordinary records now, or were never begun: there is room for new ones.
  store->Prefetch(3, std::vector<int32_t>{1, 2});
  EXPECT_EQ(store->Stats().prefetches, stats.prefetches + 2);
}

TEST(StreamedStore, RefusesABankThatIsTooSmall) {
  TestSidecar sidecar(1, kExperts);
  MemoryBudget budget;
  try {
    Make(sidecar, OptionsFor(kTopK - 1), budget);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_NE(error.Describe().find("--expert-cache-gb"), std::string::npos);
  }
  StreamOptions options = OptionsFor(kTopK);
  options.policy = "fifo";
  EXPECT_THROW(Make(sidecar, options, budget), Error);
  options = OptionsFor(kTopK);
  options.arena_bytes = kRecordBytes;
  EXPECT_THROW(Make(sidecar, options, budget), Error);
  options = OptionsFor(kTopK);
  options.read.engine = "smoke signals";
  EXPECT_THROW(Make(sidecar, options, budget), Error);
  MemoryBudget ceiling(5 * kRecordBytes);
  EXPECT_THROW(Make(sidecar, OptionsFor(8), ceiling), Error);
  EXPECT_EQ(budget.TotalBytes(), 0U);
  EXPECT_EQ(ceiling.TotalBytes(), 0U);
}

// Reads well, and says that it went through the page cache.
class BufferedReader final : public ForwardingReader {
 public:
  using ForwardingReader::ForwardingReader;
  bool direct() const override { return false; }
};

std::unique_ptr<DirectReader> OpenBuffered(const DirectReaderOptions& reading) {
  return std::make_unique<BufferedReader>(OpenDirectReader(reading));
}

TEST(ExpertStore, WarnsOfReadsThroughThePageCache) {
  TestSidecar sidecar(2, kExperts);
  MemoryBudget budget;
  StreamOptions options = OptionsFor(8);
  options.open_reader = OpenBuffered;
  for (const bool streamed : {true, false}) {
    testing::internal::CaptureStderr();
    const auto store = streamed ? Make(sidecar, options, budget)
                                : MakeResidentStore(sidecar.value(), budget, {}, OpenBuffered);
    const std::string log = testing::internal::GetCapturedStderr();
    EXPECT_THAT(log,
                testing::HasSubstr(" warning experts are read through the page cache directory=" +
                                   sidecar.value().dir.string()));
    EXPECT_FALSE(store->Stats().direct);
  }
}

TEST(StreamedStore, TwoOfOneProcessShareNothing) {
  TestSidecar sidecar(kLayers, kExperts);
  TestSidecar other_sidecar(2, kExperts);
  MemoryBudget budget;
  MemoryBudget other_budget;
  const auto store = Make(sidecar, OptionsFor(8), budget);
  const auto other = Make(other_sidecar, OptionsFor(6), other_budget);
  const uint64_t probed = other->Stats().bytes_read;
  Use(sidecar, *store, 1, {0, 1, 2, 3});
  EXPECT_EQ(other->Stats().bytes_read, probed);
  {
    const auto lease = Acquire(*store, 1, AllExperts(), ExpertUse::kPrefill);
    lease->Next(nullptr);
    Use(other_sidecar, *other, 1, AllExperts(), ExpertUse::kPrefill);
    Use(other_sidecar, *other, 2, {4, 5});
  }
  EXPECT_EQ(store->Stats().experts_resident, 4);
  EXPECT_EQ(other->Stats().experts_resident, 2);
  EXPECT_EQ(other->Stats().misses, 2);
  EXPECT_EQ(other_budget.BytesByOwner().at("expert_bank"), 6 * kRecordBytes);
}

TEST(StreamedStore, StatsMayBeReadFromAnyThread) {
  TestSidecar sidecar(kLayers, kExperts);
  MemoryBudget budget;
  const auto store = Make(sidecar, OptionsFor(8), budget);
  std::atomic<bool> stop = false;
  std::thread reader([&] {
    while (!stop) {
      const ExpertStats stats = store->Stats();
      EXPECT_LE(stats.experts_resident, stats.capacity);
      store->SaveHeat();
    }
  });
  for (int i = 0; i < 200; ++i) {
    Use(sidecar, *store, 1 + i % kLayers, {0, 1, 2, i % 29 + 3});
  }
  stop = true;
  reader.join();
}

TEST(ResidentStore, HoldsWhatTheWriterWrote) {
  TestSidecar sidecar(kLayers, kExperts);
  MemoryBudget budget;
  std::atomic<int> written = 0;
  const auto store =
      MakeResidentStore(sidecar.value().layout, kLayers + 1, {1, 2, 3, 4}, kExperts, 3, budget,
                        [&](int32_t layer, int32_t expert, std::span<std::byte> record) {
                          std::ranges::copy(sidecar.Record(layer, expert), record.begin());
                          ++written;
                        });
  EXPECT_EQ(written, kLayers * kExperts);
  for (int32_t layer = 1; layer <= kLayers; ++layer) {
    Use(sidecar, *store, layer, AllExperts());
    Use(sidecar, *store, layer, {3, 31}, ExpertUse::kPrefill);
  }
  const ExpertStats stats = store->Stats();
  EXPECT_FALSE(stats.streaming);
  EXPECT_EQ(stats.hits, kLayers * kExperts);
  EXPECT_EQ(stats.prefill_hits, kLayers * 2);
  EXPECT_EQ(stats.misses, 0);
  EXPECT_EQ(stats.experts_resident, kLayers * kExperts);
  EXPECT_EQ(budget.BytesByOwner().at("experts"), kLayers * kExperts * kRecordBytes);
}

TEST(ResidentStore, ReadsASidecarAndChecksIt) {
  TestSidecar sidecar(kLayers, kExperts);
  MemoryBudget budget;
  uint64_t progress = 0;
  {
    const auto store = MakeResidentStore(sidecar.value(), budget, [&](uint64_t bytes) {
      EXPECT_GE(bytes, progress);
      progress = bytes;
    });
    EXPECT_EQ(progress, sidecar.value().TotalBytes());
    for (int32_t layer = 1; layer <= kLayers; ++layer) {
      Use(sidecar, *store, layer, AllExperts());
    }
    EXPECT_EQ(store->Stats().bytes_read, sidecar.value().TotalBytes());
  }
  sidecar.value().moe_layers[2].xxh3_128[7] = std::string(32, '0');
  sidecar.value().cure = "mach convert it again";
  try {
    MakeResidentStore(sidecar.value(), budget, {});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCorruptFile);
    EXPECT_THAT(error.what(), testing::HasSubstr("layer_3.bin: expert 7 at offset"));
    EXPECT_THAT(error.cure(), testing::HasSubstr("mach convert it again"));
  }
  EXPECT_EQ(budget.TotalBytes(), 0U);
}

}  // namespace
}  // namespace mach::experts
