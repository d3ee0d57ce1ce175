// What a streamed store does on a machine without memory: each allocation that it makes fails once,
// on the inference thread and on the reader's. A step may fail; nothing else may, and the next step
// finds every slot.
#include <atomic>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "base/clock.h"
#include "base/error.h"
#include "experts/cache_policy.h"
#include "experts/expert_store.h"
#include "tests/support/acquire.h"
#include "tests/support/failing_allocations.h"
#include "tests/support/faulty_reader.h"
#include "tests/support/forwarding_reader.h"
#include "tests/support/test_sidecar.h"

namespace mach::experts {
namespace {

using backend::ExpertUse;
using testing_support::Acquire;
using testing_support::FailingAllocations;
using testing_support::ForwardingReader;
using testing_support::InjectFaults;
using testing_support::ReadFault;
using testing_support::TestSidecar;

constexpr int32_t kLayers = 3;
constexpr int32_t kExperts = 16;
constexpr int32_t kBankRecords = 8;
constexpr uint64_t kRecordBytes = 16384;

std::vector<backend::WantedExpert> Wanted(int32_t first, int32_t count) {
  std::vector<backend::WantedExpert> wanted;
  for (int32_t id = first; id < first + count; ++id) {
    wanted.push_back({id, 1});
  }
  return wanted;
}

class StoreMemory : public testing::TestWithParam<std::string> {
 protected:
  StoreMemory() {
    options_.bank_bytes = kBankRecords * kRecordBytes;
    options_.arena_bytes = 8 * kRecordBytes;
    options_.top_k = 2;
    options_.prefetch = true;
    options_.policy = GetParam();
    options_.read.allow_buffered = true;  // the temporary directory may be in memory
  }
  void Make() { store_ = MakeStreamedStore(sidecar_.value(), options_, budget_, {}); }

  // Takes the rest of a lease; returns how many experts that were, with the right bytes.
  size_t Drain(int32_t layer, backend::ExpertLease& lease) {
    size_t seen = 0;
    for (auto ready = lease.Next(nullptr); !ready.empty(); ready = lease.Next(nullptr)) {
      for (const backend::ReadyExpert& expert : ready) {
        seen += sidecar_.Matches(layer, expert.id, expert.record) ? 1 : 0;
      }
    }
    return seen;
  }
  void Use(int32_t layer, int32_t first, int32_t count, ExpertUse use) {
    EXPECT_EQ(Drain(layer, *store_->Acquire(layer, Wanted(first, count), 1, use)),
              static_cast<size_t>(count));
  }
  // One step can fill the bank, and one chunk goes through the arena.
  void ExpectNoSlotLost() {
    const Stopwatch watch;
    do {  // reads that nobody waits for hold their slots until they end
      Use(1, 0, kBankRecords, ExpertUse::kDecode);
    } while (store_->Stats().experts_resident < kBankRecords && watch.ElapsedSeconds() < 20);
    ASSERT_EQ(store_->Stats().experts_resident, kBankRecords);
    Use(3, 0, kExperts, ExpertUse::kPrefill);
  }

  TestSidecar sidecar_{kLayers, kExperts};
  MemoryBudget budget_;
  StreamOptions options_;
  std::atomic<bool> forgets_ = false;  // the reader's thread, some of its allocations
  std::atomic<int> forgotten_ = 0;
  std::unique_ptr<ExpertStore> store_;
};

TEST_P(StoreMemory, AGuessNeverThrows) {
  bool failed = true;
  for (int64_t first = 0; failed; ++first) {
    Make();
    // One slot is free, so the second guess looks for a victim, past what a lease has pinned.
    Use(1, 0, kBankRecords - 1, ExpertUse::kDecode);
    auto lease = store_->Acquire(1, Wanted(0, 4), 1, ExpertUse::kDecode);
    const std::vector<int32_t> guess = {3, 4, 5, 6};
    failed = false;
    for (const int32_t layer : {2, 3}) {
      const FailingAllocations failing(first);
      EXPECT_NO_THROW(store_->Prefetch(layer, guess)) << "allocation " << first;
      failed = failed || failing.failed();
    }
    EXPECT_EQ(Drain(1, *lease), 4U);
    lease.reset();
    Use(2, 0, 2, ExpertUse::kDecode);
    Use(3, 0, 2, ExpertUse::kDecode);
    ExpectNoSlotLost();
    ASSERT_FALSE(HasFatalFailure());
  }
}

TEST_P(StoreMemory, AStepThatFailsLosesNothing) {
  Make();
  for (const ExpertUse use : {ExpertUse::kDecode, ExpertUse::kPrefill}) {
    for (const int64_t count : {1, 1000}) {  // one allocation fails, or all from there on
      bool failed = true;
      for (int64_t first = 0; failed; ++first) {
        store_->Prefetch(2, std::vector<int32_t>{8, 9});
        const auto wanted = Wanted(2, 12);
        std::unique_ptr<backend::ExpertLease> lease;
        size_t seen = 0;
        ErrorCode code = ErrorCode::kIo;
        {
          const FailingAllocations failing(first, count);
          try {
            lease = store_->Acquire(2, wanted, 1, use);
            for (auto ready = lease->Next(nullptr); !ready.empty(); ready = lease->Next(nullptr)) {
              seen += ready.size();
            }
          } catch (const std::bad_alloc&) {
          } catch (const Error& error) {
            code = error.code();
          }
          failed = failing.failed();
          if (first % 2 == 0) {
            lease.reset();
          }
        }
        EXPECT_EQ(code, ErrorCode::kIo);
        if (lease) {  // the same one may try again, for each record that has failed
          for (size_t tries = 0; tries <= wanted.size(); ++tries) {
            try {
              for (auto ready = lease->Next(nullptr); !ready.empty();
                   ready = lease->Next(nullptr)) {
                seen += ready.size();
              }
              break;
            } catch (const Error&) {
            }
          }
          EXPECT_EQ(seen, wanted.size()) << "allocation " << first;
          lease.reset();
        }
        ExpectNoSlotLost();
        ASSERT_FALSE(HasFatalFailure());
      }
    }
  }
}

TEST_P(StoreMemory, AStoreEndsWithoutMemory) {
  for (const char* io : {"io_uring", "pread"}) {
    options_.read.engine = io;
    options_.read.queue_depth = 1;  // so that reads are queued
    Make();
    Use(1, 0, kExperts, ExpertUse::kPrefill);  // and reads ahead
    store_->Prefetch(2, std::vector<int32_t>{8, 9});
    const FailingAllocations failing(0, 1000);
    store_.reset();
    EXPECT_FALSE(failing.failed()) << "allocates while it ends";
  }
}

// Now and then lets allocations of the reader's thread fail between two calls of Wait: one, or all
// from it on.
class ForgetfulThread final : public ForwardingReader {
 public:
  ForgetfulThread(std::unique_ptr<DirectReader> reader, const std::atomic<bool>& on,
                  std::atomic<int>& failed)
      : ForwardingReader(std::move(reader)), on_(on), failed_(failed) {}
  ForgetfulThread(const ForgetfulThread&) = delete;
  ForgetfulThread& operator=(const ForgetfulThread&) = delete;
  ~ForgetfulThread() override = default;

  std::span<const ReadResult> Wait() override {
    failed_ += failing_ && failing_->failed() ? 1 : 0;
    failing_.reset();
    const std::span<const ReadResult> results = ForwardingReader::Wait();
    if (on_ && ++waits_ % 4 == 0) {
      failing_.emplace(waits_ / 4 % 6, waits_ % 8 == 0 ? 1 : 1000);
    }
    return results;
  }

 private:
  const std::atomic<bool>& on_;
  std::atomic<int>& failed_;
  int64_t waits_ = 0;
  std::optional<FailingAllocations> failing_;
};

TEST_P(StoreMemory, TheReadersThreadLivesOn) {
  options_.open_reader = [this](const DirectReaderOptions& reading) {
    const auto some = [this](uint64_t index, const ReadRequest&) {
      return forgets_ && index % 5 == 2 ? ReadFault::kFail : ReadFault::kNone;
    };
    return std::make_unique<ForgetfulThread>(InjectFaults(OpenDirectReader(reading), some),
                                             forgets_, forgotten_);
  };
  Make();
  forgets_ = true;
  for (int32_t round = 0; round < 100; ++round) {
    try {
      Use(1 + round % kLayers, round % 5, 10,
          round % 2 == 0 ? ExpertUse::kDecode : ExpertUse::kPrefill);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kIo);
    }
  }
  forgets_ = false;
  EXPECT_GT(forgotten_, 0);
  for (int32_t layer = 1; layer <= kLayers; ++layer) {
    try {
      Use(layer, 0, kExperts, ExpertUse::kPrefill);  // outlasts reads that are to fail yet
    } catch (const Error&) {
    }
  }
  ExpectNoSlotLost();
}

INSTANTIATE_TEST_SUITE_P(Policies, StoreMemory, testing::ValuesIn(CachePolicyNames()),
                         [](const auto& policy) { return policy.param; });

// In a directory that is there, and in one that is not, whose error there may be no memory to log.
TEST(HeatMemory, SavingNeverThrows) {
  TestSidecar sidecar(kLayers, kExperts);
  MemoryBudget budget;
  for (const char* file : {"heat.bin", "missing/heat.bin"}) {
    StreamOptions options;
    options.bank_bytes = kBankRecords * kRecordBytes;
    options.top_k = 2;
    options.read.allow_buffered = true;
    options.heat_file = sidecar.value().dir / file;
    for (const int64_t count : {1, 1000}) {
      bool failed = true;
      for (int64_t first = 0; failed; ++first) {
        const auto store = MakeStreamedStore(sidecar.value(), options, budget, {});
        Acquire(*store, 1, {1, 2}, ExpertUse::kDecode);
        const FailingAllocations failing(first, count);
        EXPECT_NO_THROW(store->SaveHeat()) << file << ", allocation " << first;
        failed = failing.failed();
      }
    }
  }
}

}  // namespace
}  // namespace mach::experts
