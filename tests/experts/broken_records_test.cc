// Records that cannot be read, or are not what the manifest says: errors that name them, and a
// store that lives on.
#include <atomic>
#include <cerrno>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "experts/expert_store.h"
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

// Fails every read of one record of layer 2.
OpenReader Breaking(int32_t expert, ReadFault fault, const std::atomic<bool>& broken) {
  return [=, &broken](const DirectReaderOptions& reading) {
    return InjectFaults(
        OpenDirectReader(reading), [=, &broken](uint64_t, const ReadRequest& request) {
          const bool hit = request.file == 1 &&
                           request.offset_bytes == static_cast<uint64_t>(expert) * kRecordBytes;
          return hit && broken ? fault : ReadFault::kNone;
        });
  };
}

class BrokenRecord : public testing::TestWithParam<std::tuple<ReadFault, ExpertUse, std::string>> {
};

TEST_P(BrokenRecord, IsAnErrorThatNamesItAndTheStoreLivesOn) {
  const auto& [fault, use, io] = GetParam();
  const ErrorCode code = fault == ReadFault::kFail ? ErrorCode::kIo : ErrorCode::kCorruptFile;
  TestSidecar sidecar(kLayers, kExperts);
  MemoryBudget budget;
  std::atomic<bool> broken = true;
  StreamOptions options = OptionsFor(6);
  options.read.engine = io;
  options.arena_bytes = 5 * kRecordBytes;
  options.open_reader = Breaking(17, fault, broken);
  const auto store = Make(sidecar, options, budget);
  for (int round = 0; round < 3; ++round) {
    const auto lease = Acquire(*store, 2, AllExperts(), use);
    std::set<int32_t> seen;
    try {
      for (auto ready = lease->Next(nullptr); !ready.empty(); ready = lease->Next(nullptr)) {
        for (const backend::ReadyExpert& expert : ready) {
          ASSERT_TRUE(sidecar.Matches(2, expert.id, expert.record));
          seen.insert(expert.id);
        }
      }
      FAIL() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.Describe();
      EXPECT_THAT(error.what(), testing::HasSubstr("layer_2.bin: expert 17 at offset 278528"));
    }
    EXPECT_FALSE(seen.contains(17));
    if (round == 1) {  // the same lease may try again
      broken = false;
      for (auto ready = lease->Next(nullptr); !ready.empty(); ready = lease->Next(nullptr)) {
        for (const backend::ReadyExpert& expert : ready) {
          ASSERT_TRUE(sidecar.Matches(2, expert.id, expert.record));
          EXPECT_TRUE(seen.insert(expert.id).second);
        }
      }
      EXPECT_EQ(seen.size(), static_cast<size_t>(kExperts));
      break;
    }
  }
  EXPECT_EQ(store->Stats().read_errors, 4);  // each tried twice
  Use(sidecar, *store, 2, AllExperts(), use);
  Use(sidecar, *store, 1, {0, 1, 2, 3, 4, 5});
}

INSTANTIATE_TEST_SUITE_P(Store, BrokenRecord,
                         testing::Combine(testing::Values(ReadFault::kFail, ReadFault::kShort,
                                                          ReadFault::kBitFlip),
                                          testing::Values(ExpertUse::kDecode, ExpertUse::kPrefill),
                                          testing::Values("io_uring", "pread")));

// Fails every read of layer 2: those of its first four experts at once, the others when it is let
// go.
class FailingLayer final : public ForwardingReader {
 public:
  using ForwardingReader::ForwardingReader;

  void Submit(std::span<const ReadRequest> requests) override {
    {
      const std::lock_guard lock(mutex_);
      for (const ReadRequest& request : requests) {
        const uint64_t expert = request.offset_bytes / kRecordBytes;
        reads_[request.tag] = request.file != 1 ? Fate::kServe
                              : expert < 4      ? Fate::kFail
                                                : Fate::kHold;
      }
    }
    ForwardingReader::Submit(requests);
  }
  std::span<const ReadResult> Wait() override {
    results_.clear();
    for (ReadResult result : ForwardingReader::Wait()) {
      const std::lock_guard lock(mutex_);
      const Fate fate = reads_.at(result.tag);
      if (fate != Fate::kServe) {
        result = {result.tag, 0, EIO};
      }
      (fate == Fate::kHold && !let_go_ ? held_ : results_).push_back(result);
    }
    const std::lock_guard lock(mutex_);
    if (let_go_) {
      results_.insert(results_.end(), held_.begin(), held_.end());
      held_.clear();
    }
    return results_;
  }

  size_t held() const {
    const std::lock_guard lock(mutex_);
    return held_.size();
  }
  void LetGo() {
    {
      const std::lock_guard lock(mutex_);
      let_go_ = true;
    }
    Interrupt();
  }

 private:
  enum class Fate { kServe, kFail, kHold };

  std::vector<ReadResult> results_;  // of the waiting thread
  mutable std::mutex mutex_;         // of what follows
  std::map<uint64_t, Fate> reads_;
  std::vector<ReadResult> held_;
  bool let_go_ = false;
};

// The first experts of the layer have failed when it is asked for, and the others fill the arena.
TEST(StreamedStore, ALayerThatFailsWhileItIsReadAheadIsAnError) {
  TestSidecar sidecar(kLayers, kExperts);
  MemoryBudget budget;
  StreamOptions options = OptionsFor(8);
  options.arena_bytes = 5 * kRecordBytes;
  options.read.queue_depth = 8;
  FailingLayer* failing = nullptr;
  options.open_reader = [&](const DirectReaderOptions& reading) {
    auto wrapped = std::make_unique<FailingLayer>(OpenDirectReader(reading));
    failing = wrapped.get();
    return wrapped;
  };
  const auto store = Make(sidecar, options, budget);
  Use(sidecar, *store, 1, AllExperts(), ExpertUse::kPrefill);
  while (failing->held() < 5) {
    std::this_thread::yield();
  }
  const auto lease = Acquire(*store, 2, AllExperts(), ExpertUse::kPrefill);
  failing->LetGo();
  EXPECT_THROW(lease->Next(nullptr), Error);
}

TEST(StreamedStore, FindsABrokenFirstRecordAtTheStart) {
  TestSidecar sidecar(2, kExperts);
  MemoryBudget budget;
  std::filesystem::resize_file(sidecar.value().PathOf(sidecar.value().moe_layers[0]), 100);
  EXPECT_THROW(Make(sidecar, OptionsFor(8), budget), Error);
  std::filesystem::remove(sidecar.value().PathOf(sidecar.value().moe_layers[1]));
  try {
    Make(sidecar, OptionsFor(8), budget);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kNotFound);
    EXPECT_THAT(error.what(), testing::HasSubstr("layer_2.bin"));
  }
  EXPECT_EQ(budget.TotalBytes(), 0U);
}

}  // namespace
}  // namespace mach::experts
