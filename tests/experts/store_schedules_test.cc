// Random schedules on a streamed store: chunks of prefill, layer by layer, with decode steps
// between the layers, guesses, faults of the disk, cancelled and given-up leases, over random sizes
// of bank and arena. Whatever happens, bytes are right, no slot is lost, and decoding costs prefill
// no read.
#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <numeric>
#include <random>
#include <set>
#include <span>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/clock.h"
#include "base/error.h"
#include "experts/expert_store.h"
#include "tests/support/faulty_reader.h"
#include "tests/support/test_sidecar.h"

namespace mach::experts {
namespace {

using backend::ExpertUse;
using testing_support::InjectFaults;
using testing_support::ReadFault;
using testing_support::TestSidecar;

constexpr int32_t kLayers = 4;
constexpr int32_t kExperts = 24;
constexpr int32_t kTopK = 3;
constexpr int32_t kMostDepth = 8;  // reads in flight
constexpr uint64_t kRecordBytes = 16384;
constexpr uint32_t kSchedules = 60;
constexpr int kChunks = 10;

class Schedule {
 public:
  Schedule(TestSidecar& sidecar, uint32_t seed)
      : sidecar_(sidecar), random_(seed), disk_random_(seed + 1) {
    const std::vector<std::string> policies = CachePolicyNames();
    StreamOptions options;
    options.top_k = kTopK;
    options.bank_bytes = static_cast<uint64_t>(Between(kTopK, kLayers * kExperts)) * kRecordBytes;
    arena_records_ = Chance(30) ? kExperts + kMostDepth : Between(4, kExperts);
    options.arena_bytes = static_cast<uint64_t>(arena_records_) * kRecordBytes;
    options.policy = policies[static_cast<size_t>(Between(0, 2))];
    options.prefetch = Chance(50);
    options.read.engine = Chance(50) ? "pread" : "io_uring";
    options.read.queue_depth = Between(1, kMostDepth);
    options.read.allow_buffered = true;  // the temporary directory may be in memory
    options.open_reader = [this](const DirectReaderOptions& reading) {
      arena_ = reading.buffers.at(1);
      return InjectFaults(OpenDirectReader(reading),
                          [this](uint64_t index, const ReadRequest& request) {
                            return index == 0 ? ReadFault::kNone : OnRead(request);
                          });
    };
    faults_ = Chance(50);
    faults_percent_ = faults_ ? Between(1, 30) : 0;
    troubles_ = Chance(50);
    store_ = MakeStreamedStore(sidecar.value(), options, budget_, {});
  }

  void Run() {
    for (int chunk = 0; chunk < kChunks && !testing::Test::HasFailure(); ++chunk) {
      Prefill();
      for (int steps = Between(0, 2); steps > 0; --steps) {
        DecodeStep();
      }
    }
    faults_percent_ = 0;
    troubles_ = false;
    ExpectNoBankSlotLost();
    ExpectNoArenaSlotLost();
  }

 private:
  int32_t Between(int32_t low, int32_t high) {
    return std::uniform_int_distribution<int32_t>(low, high)(random_);
  }
  bool Chance(int32_t percent) { return Between(1, 100) <= percent; }

  std::vector<int32_t> RandomIds(int32_t count) {
    std::vector<int32_t> ids(kExperts);
    std::iota(ids.begin(), ids.end(), 0);
    std::shuffle(ids.begin(), ids.end(), random_);
    ids.resize(static_cast<size_t>(count));
    std::ranges::sort(ids);
    return ids;
  }

  // Of all reads, retries too; called under a lock. A flipped bit would pass: a record is checked
  // when it is first read.
  ReadFault OnRead(const ReadRequest& request) {
    const std::lock_guard lock(disk_mutex_);
    if (request.out.data() >= arena_.data() && request.out.data() < arena_.data() + arena_.size()) {
      ++arena_reads_[static_cast<size_t>(request.file)][request.offset_bytes / kRecordBytes];
    }
    if (static_cast<int32_t>(disk_random_() % 100) >= faults_percent_) {
      return ReadFault::kNone;
    }
    return std::array{ReadFault::kLate, ReadFault::kShort, ReadFault::kFail}[disk_random_() % 3];
  }
  // Of the experts of a layer into the arena, since the layer was last forgotten.
  std::array<int, kExperts> ArenaReads(int32_t layer) {
    const std::lock_guard lock(disk_mutex_);
    return arena_reads_[static_cast<size_t>(layer - 1)];
  }
  void ForgetArenaReads(int32_t layer) {
    const std::lock_guard lock(disk_mutex_);
    arena_reads_[static_cast<size_t>(layer - 1)] = {};
  }

  // False if it ended before all was returned.
  bool UseLayer(int32_t layer, const std::vector<int32_t>& ids, int32_t tokens, ExpertUse use) {
    std::vector<backend::WantedExpert> wanted;
    for (const int32_t id : ids) {
      wanted.push_back({id, Between(1, tokens)});
    }
    const auto lease = store_->Acquire(layer, wanted, tokens, use);
    std::set<int32_t> left(ids.begin(), ids.end());
    std::atomic<bool> cancel = false;
    for (;;) {
      if (troubles_ && Chance(3)) {
        return false;
      }
      cancel = troubles_ && Chance(3);
      std::span<const backend::ReadyExpert> ready;
      try {
        ready = lease->Next(&cancel);
      } catch (const Error& error) {
        EXPECT_TRUE(error.code() == ErrorCode::kCancelled ? cancel.load() : faults_)
            << error.Describe();
        if (Chance(50)) {
          return false;
        }
        continue;  // the same lease may try again
      }
      if (ready.empty()) {
        EXPECT_TRUE(left.empty());
        return true;
      }
      for (const backend::ReadyExpert& expert : ready) {
        EXPECT_EQ(left.erase(expert.id), 1U) << "layer " << layer << ", expert " << expert.id;
        EXPECT_TRUE(sidecar_.Matches(layer, expert.id, expert.record));
      }
    }
  }

  void DecodeStep() {
    const int32_t tokens = Between(1, 3);
    for (int32_t layer = 1; layer <= kLayers; ++layer) {
      if (Chance(30)) {
        store_->Prefetch(layer, RandomIds(kTopK));
      }
      const bool whole =
          UseLayer(layer, RandomIds(Between(kTopK, tokens * kTopK)), tokens, ExpertUse::kDecode);
      if (!whole && Chance(50)) {
        return;  // the step has failed
      }
    }
  }

  void Prefill() {
    const ExpertUse use = Chance(50) ? ExpertUse::kPrefill : ExpertUse::kPrefillMore;
    for (int32_t layer = 1; layer <= kLayers; ++layer) {
      const int32_t count = Chance(80) ? Between(kExperts - 4, kExperts) : Between(1, kExperts);
      if (!UseLayer(layer, RandomIds(count), kExperts, use)) {
        for (int32_t each = 1; each <= kLayers; ++each) {
          ForgetArenaReads(each);  // what was read ahead may be read again
        }
        return;  // the chunk has failed
      }
      // With room for a layer, and for reads in flight that nobody wants any more, what is read
      // ahead stays until it is used, and nothing is read twice.
      if (!faults_ && arena_records_ >= kExperts + kMostDepth) {
        EXPECT_LE(std::ranges::max(ArenaReads(layer)), 1) << "layer " << layer;
      }
      ForgetArenaReads(layer);
      for (int steps = Between(0, 2); steps > 0; --steps) {
        DecodeStep();
      }
    }
  }

  // Reads that nobody waits for hold their slots until they end, hence the patience.
  template <typename Condition>
  static void Await(const Condition& condition) {
    const Stopwatch watch;
    while (!condition()) {
      ASSERT_LT(watch.ElapsedSeconds(), 60);
    }
  }
  void ExpectNoBankSlotLost() {
    Await([this] {
      for (int32_t layer = 1; layer <= kLayers; ++layer) {
        if (!UseLayer(layer, RandomIds(kExperts), 1, ExpertUse::kDecode)) {
          return false;
        }
      }
      return store_->Stats().experts_resident == store_->Stats().capacity;
    });
  }
  // All of them hold the next layer once one is done with.
  void ExpectNoArenaSlotLost() {
    Await([this] {
      ForgetArenaReads(2);
      if (!UseLayer(1, RandomIds(kExperts), 1, ExpertUse::kPrefill)) {
        return false;
      }
      const auto reads = ArenaReads(2);
      const auto in_bank = static_cast<int32_t>(store_->Stats().per_layer[1].resident);
      const bool used = UseLayer(2, RandomIds(kExperts), 1, ExpertUse::kPrefill);
      return used && std::accumulate(reads.begin(), reads.end(), 0) ==
                         std::min(arena_records_, kExperts - in_bank);
    });
  }

  TestSidecar& sidecar_;
  std::mt19937 random_;
  int32_t arena_records_ = 0;
  bool faults_ = false;    // reads fail; some may, after the percentage is 0 again
  bool troubles_ = false;  // leases are cancelled and given up
  std::atomic<int32_t> faults_percent_ = 0;

  std::mutex disk_mutex_;  // of what follows
  std::mt19937 disk_random_;
  std::span<std::byte> arena_;
  std::array<std::array<int, kExperts>, kLayers> arena_reads_ = {};

  MemoryBudget budget_;
  std::unique_ptr<ExpertStore> store_;
};

TEST(StreamedStore, AnyScheduleGetsTheRightBytesAndLosesNoSlot) {
  TestSidecar sidecar(kLayers, kExperts);
  for (uint32_t seed = 1; seed <= kSchedules && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Schedule(sidecar, seed).Run();
  }
}

}  // namespace
}  // namespace mach::experts
