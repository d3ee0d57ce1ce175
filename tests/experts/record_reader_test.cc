#include "experts/record_reader.h"

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <functional>
#include <mutex>
#include <new>
#include <optional>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "tensor/memory.h"
#include "tests/support/test_sidecar.h"

namespace mach::experts {
namespace {

using testing_support::TestSidecar;

constexpr uint64_t kRecordBytes = 16384;
constexpr uint64_t kPlaces = 4;

// A disk whose reads begin never and end when the test says so, with or without the right bytes.
class ScriptedDisk final : public DirectReader {
 public:
  explicit ScriptedDisk(const TestSidecar& sidecar) : sidecar_(sidecar) {}
  ScriptedDisk(const ScriptedDisk&) = delete;
  ScriptedDisk& operator=(const ScriptedDisk&) = delete;
  ~ScriptedDisk() override {
    if (at_end) {
      at_end();
    }
  }

  void Submit(std::span<const ReadRequest> requests) override {
    const std::lock_guard lock(mutex_);
    if (refuses_) {
      throw std::bad_alloc();
    }
    queue_.insert(queue_.end(), requests.begin(), requests.end());
    changed_.notify_all();
  }
  void Promote(uint64_t tag, ReadPriority priority) override {
    const std::lock_guard lock(mutex_);
    for (ReadRequest& request : queue_) {
      request.priority = request.tag == tag ? priority : request.priority;
    }
  }
  bool Cancel(uint64_t tag) override {
    const std::lock_guard lock(mutex_);
    return std::erase_if(queue_, [&](const auto& request) { return request.tag == tag; }) > 0;
  }
  std::span<const ReadResult> Wait() override {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return interrupted_ || !results_.empty(); });
    returned_.clear();
    returned_.swap(results_);
    lock.unlock();
    if (before_results && !returned_.empty()) {
      before_results();
    }
    return returned_;
  }
  void Interrupt() override {
    const std::lock_guard lock(mutex_);
    interrupted_ = true;
    changed_.notify_all();
  }
  const char* engine() const override { return "scripted"; }
  bool direct() const override { return true; }

  // The oldest queued read, as soon as there is one.
  ReadRequest AwaitRead() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !queue_.empty(); });
    return queue_.front();
  }
  void End(int error) {
    const ReadRequest request = AwaitRead();
    const std::lock_guard lock(mutex_);
    queue_.pop_front();
    if (error == 0) {
      std::ranges::copy(sidecar_.Record(request.file + 1,
                                        static_cast<int32_t>(request.offset_bytes / kRecordBytes)),
                        request.out.begin());
    }
    results_.push_back({request.tag, error == 0 ? request.out.size() : 0, error});
    changed_.notify_all();
  }
  void RefuseReads(bool refuses) {
    const std::lock_guard lock(mutex_);
    refuses_ = refuses;
  }
  size_t queued() {
    const std::lock_guard lock(mutex_);
    return queue_.size();
  }

  // On the reader's thread, when it is about to learn of results. Set while it knows of none.
  std::function<void()> before_results;
  std::function<void()> at_end;

 private:
  const TestSidecar& sidecar_;
  std::mutex mutex_;  // of what follows
  std::condition_variable changed_;
  std::deque<ReadRequest> queue_;
  std::vector<ReadResult> results_;
  std::vector<ReadResult> returned_;
  bool interrupted_ = false;
  bool refuses_ = false;
};

class RecordReading : public testing::Test {
 protected:
  RecordReading() {
    DirectReaderOptions options;
    options.how.allow_buffered = true;  // the temporary directory may be in memory
    reader_.emplace(
        sidecar_.value(), options, kPlaces,
        [this](const DirectReaderOptions&) {
          auto disk = std::make_unique<ScriptedDisk>(sidecar_);
          disk_ = disk.get();
          return disk;
        },
        [this](std::span<RecordResult> results) {
          const std::lock_guard lock(mutex_);
          EXPECT_FALSE(ended_);
          for (RecordResult& result : results) {
            results_.push_back(std::move(result));
          }
          reported_.notify_all();
        });
  }

  // Of layer 1, into the place with the number of the expert.
  void Read(int32_t expert, ReadPriority priority) {
    const RecordRead read = {static_cast<uint64_t>(expert), 0, expert,
                             memory_.data() + static_cast<uint64_t>(expert) * kRecordBytes,
                             priority};
    reader_->Read({&read, 1});
  }
  RecordResult AwaitResult() {
    std::unique_lock lock(mutex_);
    reported_.wait(lock, [this] { return !results_.empty(); });
    RecordResult result = results_.front();
    results_.pop_front();
    return result;
  }
  size_t unread_results() {
    const std::lock_guard lock(mutex_);
    return results_.size();
  }

  TestSidecar sidecar_{1, 4};
  MemoryBudget budget_;
  Buffer memory_{budget_, "test", kPlaces* kRecordBytes};
  ScriptedDisk* disk_ = nullptr;
  std::mutex mutex_;  // of what follows
  std::condition_variable reported_;
  std::deque<RecordResult> results_;
  bool ended_ = false;
  std::optional<RecordReader> reader_;
};

TEST_F(RecordReading, AFailureIsTriedAgainOnce) {
  Read(1, ReadPriority::kDemand);
  disk_->End(EIO);
  disk_->End(0);
  const RecordResult good = AwaitResult();
  EXPECT_EQ(good.place, 1U);
  EXPECT_FALSE(good.error);
  EXPECT_TRUE(sidecar_.Matches(1, 1, memory_.data() + kRecordBytes));
  Read(2, ReadPriority::kDemand);
  disk_->End(EIO);
  disk_->End(EIO);
  const RecordResult bad = AwaitResult();
  EXPECT_EQ(bad.place, 2U);
  ASSERT_TRUE(bad.error);
  EXPECT_EQ(bad.error->code(), ErrorCode::kIo);
  EXPECT_EQ(reader_->Stats().read_errors, 3);
  EXPECT_EQ(reader_->Stats().bytes_read, kRecordBytes);
}

TEST_F(RecordReading, APromotionBetweenFailureAndRetryIsKept) {
  disk_->before_results = [this] {
    reader_->Promote(3, ReadPriority::kUrgent);
    reader_->Promote(3, ReadPriority::kDemand);  // takes nothing back
  };
  Read(3, ReadPriority::kPrefetch);
  EXPECT_EQ(disk_->AwaitRead().priority, ReadPriority::kPrefetch);
  disk_->End(EIO);
  EXPECT_EQ(disk_->AwaitRead().priority, ReadPriority::kUrgent);
  disk_->End(0);
  EXPECT_FALSE(AwaitResult().error);
}

TEST_F(RecordReading, AQueuedRetryCanBeCancelled) {
  Read(0, ReadPriority::kPrefetch);
  disk_->End(EIO);
  disk_->AwaitRead();  // the retry
  EXPECT_TRUE(reader_->Cancel(0));
  EXPECT_FALSE(reader_->Cancel(0));
  const double seconds = reader_->Stats().read_seconds;
  EXPECT_EQ(reader_->Stats().read_seconds, seconds);  // nothing is under way
  // Its place may be used again, and a failure of that read is tried again.
  Read(0, ReadPriority::kDemand);
  disk_->End(EIO);
  disk_->End(0);
  const RecordResult result = AwaitResult();
  EXPECT_EQ(result.place, 0U);
  EXPECT_FALSE(result.error);
  EXPECT_EQ(unread_results(), 0U);
}

TEST_F(RecordReading, ARetryThatCannotBeSubmittedIsTheFailure) {
  disk_->before_results = [this] { disk_->RefuseReads(true); };
  Read(1, ReadPriority::kDemand);
  disk_->End(EIO);
  const RecordResult result = AwaitResult();
  EXPECT_EQ(result.place, 1U);
  ASSERT_TRUE(result.error);
  EXPECT_EQ(result.error->code(), ErrorCode::kIo);
  // Nor is a read begun that cannot be submitted.
  EXPECT_THROW(Read(2, ReadPriority::kDemand), std::bad_alloc);
  const double seconds = reader_->Stats().read_seconds;
  EXPECT_EQ(reader_->Stats().read_seconds, seconds);
  disk_->RefuseReads(false);
  disk_->before_results = nullptr;
  Read(2, ReadPriority::kDemand);
  disk_->End(0);
  EXPECT_FALSE(AwaitResult().error);
}

TEST_F(RecordReading, NothingIsReportedAfterItsEnd) {
  for (int32_t expert = 0; expert < 4; ++expert) {
    Read(expert, ReadPriority::kDemand);
  }
  disk_->End(0);
  disk_->End(EIO);
  bool disk_ended = false;
  disk_->at_end = [&disk_ended] { disk_ended = true; };
  reader_.reset();
  EXPECT_TRUE(disk_ended);  // with the reads that were in flight
  const std::lock_guard lock(mutex_);
  ended_ = true;
  EXPECT_LE(results_.size(), 1U);
}

}  // namespace
}  // namespace mach::experts
