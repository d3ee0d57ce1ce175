// What a streamed store does when its disk stalls or a lease cannot start: the request fails, and
// the next one finds every slot.
#include <atomic>
#include <memory>
#include <new>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "base/clock.h"
#include "base/error.h"
#include "experts/expert_store.h"
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

constexpr int32_t kLayers = 3;
constexpr int32_t kExperts = 16;
constexpr int32_t kBankRecords = 8;
constexpr uint64_t kRecordBytes = 16384;

class StoreFaults : public testing::TestWithParam<ExpertUse> {
 protected:
  StoreFaults() {
    options_.bank_bytes = kBankRecords * kRecordBytes;
    options_.arena_bytes = 8 * kRecordBytes;
    options_.top_k = 2;
    options_.prefetch = true;
    options_.read.allow_buffered = true;  // the temporary directory may be in memory
  }

  // Until Interrupt, expert 5 of layer 2 has no result.
  std::unique_ptr<DirectReader> OpenHanging(const DirectReaderOptions& reading) {
    auto reader = InjectFaults(OpenDirectReader(reading), [](uint64_t, const ReadRequest& request) {
      const bool hit = request.file == 1 && request.offset_bytes == 5 * kRecordBytes;
      return hit ? ReadFault::kHang : ReadFault::kNone;
    });
    hanging_ = reader.get();
    return reader;
  }
  void Make() { store_ = MakeStreamedStore(sidecar_.value(), options_, budget_, {}); }

  void Use(int32_t layer, const std::vector<int32_t>& ids, ExpertUse use) {
    const auto lease = Acquire(*store_, layer, ids, use);
    size_t count = 0;
    for (auto ready = lease->Next(nullptr); !ready.empty(); ready = lease->Next(nullptr)) {
      for (const backend::ReadyExpert& expert : ready) {
        EXPECT_TRUE(sidecar_.Matches(layer, expert.id, expert.record));
        ++count;
      }
    }
    EXPECT_EQ(count, ids.size());
  }
  // One step can fill the bank, and one chunk goes through the arena.
  void ExpectNoSlotLost() {
    std::vector<int32_t> ids(kBankRecords);
    std::iota(ids.begin(), ids.end(), 0);
    const Stopwatch watch;
    do {  // reads that nobody waits for hold their slots until they end
      Use(1, ids, ExpertUse::kDecode);
    } while (store_->Stats().experts_resident < kBankRecords && watch.ElapsedSeconds() < 60);
    EXPECT_EQ(store_->Stats().experts_resident, kBankRecords);
    ids.resize(kExperts);
    std::iota(ids.begin(), ids.end(), 0);
    Use(3, ids, ExpertUse::kPrefill);
  }

  TestSidecar sidecar_{kLayers, kExperts};
  MemoryBudget budget_;
  StreamOptions options_;
  DirectReader* hanging_ = nullptr;
  std::unique_ptr<ExpertStore> store_;
};

ErrorCode CodeOfDraining(backend::ExpertLease& lease, const std::atomic<bool>* cancel) {
  try {
    while (!lease.Next(cancel).empty()) {
    }
  } catch (const Error& error) {
    return error.code();
  }
  return ErrorCode::kInternal;
}

TEST_P(StoreFaults, AWaitForAStalledDiskIsCancelled) {
  options_.open_reader = [this](const DirectReaderOptions& reading) {
    return OpenHanging(reading);
  };
  Make();
  std::atomic<bool> cancel = false;
  std::thread client([&] {
    while (store_->Stats().stall_seconds < 0.05) {
      std::this_thread::yield();
    }
    cancel = true;
  });
  EXPECT_EQ(CodeOfDraining(*Acquire(*store_, 2, {4, 5, 6}, GetParam()), &cancel),
            ErrorCode::kCancelled);
  client.join();
  // The read goes on, and others need not wait for it.
  Use(1, {0, 1, 2}, GetParam());
  Use(2, {4, 6}, GetParam());
  EXPECT_EQ(CodeOfDraining(*Acquire(*store_, 2, {5}, GetParam()), &cancel), ErrorCode::kCancelled);
  hanging_->Interrupt();
  Use(2, {4, 5, 6}, GetParam());
  ExpectNoSlotLost();
}

TEST_P(StoreFaults, AStoreEndsWhileItsDiskStalls) {
  options_.open_reader = [this](const DirectReaderOptions& reading) {
    return OpenHanging(reading);
  };
  Make();
  const std::atomic<bool> cancel = true;
  EXPECT_EQ(CodeOfDraining(*Acquire(*store_, 2, {5}, GetParam()), &cancel), ErrorCode::kCancelled);
}

// Runs out of memory where it is told to.
class OutOfMemoryReader final : public ForwardingReader {
 public:
  using ForwardingReader::ForwardingReader;

  void Submit(std::span<const ReadRequest> requests) override {
    ThrowIf(in_submit);
    ForwardingReader::Submit(requests);
  }
  void Promote(uint64_t tag, ReadPriority priority) override {
    ThrowIf(in_promote);
    ForwardingReader::Promote(tag, priority);
  }

  std::atomic<bool> in_submit = false;
  std::atomic<bool> in_promote = false;

 private:
  static void ThrowIf(bool condition) {
    if (condition) {
      throw std::bad_alloc();
    }
  }
};

TEST_P(StoreFaults, ReadsThatCannotBeSubmittedFail) {
  OutOfMemoryReader* reader = nullptr;
  options_.open_reader = [&](const DirectReaderOptions& reading) {
    auto wrapped = std::make_unique<OutOfMemoryReader>(OpenDirectReader(reading));
    reader = wrapped.get();
    return wrapped;
  };
  Make();
  Use(2, {1, 2}, ExpertUse::kDecode);
  reader->in_submit = true;
  std::vector<int32_t> ids(kExperts);
  std::iota(ids.begin(), ids.end(), 0);
  for (int round = 0; round < 2; ++round) {
    store_->Prefetch(1, std::vector<int32_t>{0, 1});
    EXPECT_EQ(CodeOfDraining(*Acquire(*store_, 2, ids, GetParam()), nullptr), ErrorCode::kIo);
  }
  reader->in_submit = false;
  Use(2, ids, GetParam());
  ExpectNoSlotLost();
}

TEST_P(StoreFaults, ALeaseThatCannotStartLeavesTheStoreUsable) {
  OutOfMemoryReader* reader = nullptr;
  options_.open_reader = [&](const DirectReaderOptions& reading) {
    auto wrapped = std::make_unique<OutOfMemoryReader>(OpenHanging(reading));
    reader = wrapped.get();
    return wrapped;
  };
  Make();
  Use(2, {3}, ExpertUse::kDecode);
  store_->Prefetch(2, std::vector<int32_t>{5});
  reader->in_promote = true;
  EXPECT_THROW(Acquire(*store_, 2, {3, 5, 6}, GetParam()), std::bad_alloc);
  reader->in_promote = false;
  Use(1, {0, 1}, GetParam());
  hanging_->Interrupt();
  Use(2, {3, 5, 6}, GetParam());
  ExpectNoSlotLost();
}

INSTANTIATE_TEST_SUITE_P(Uses, StoreFaults,
                         testing::Values(ExpertUse::kDecode, ExpertUse::kPrefill),
                         [](const auto& use) {
                           return use.param == ExpertUse::kDecode ? "decode" : "prefill";
                         });

}  // namespace
}  // namespace mach::experts
