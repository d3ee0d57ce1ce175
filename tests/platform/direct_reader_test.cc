#include "platform/direct_reader.h"

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#if defined(__linux__)
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#endif

#include "base/error.h"
#include "tests/support/emulated.h"
#include "tests/support/faulty_reader.h"

namespace mach {
namespace {

using testing_support::InjectFaults;
using testing_support::ReadFault;

constexpr uint64_t kBlock = 16384;
constexpr uint64_t kBlocks = 64;

class DirectReading : public testing::TestWithParam<std::string> {
 protected:
  DirectReading() {
    std::string pattern = (std::filesystem::temp_directory_path() / "mach-XXXXXX").string();
    dir_ = ::mkdtemp(pattern.data());
    std::mt19937_64 random(1);
    for (const char* name : {"a", "b"}) {
      std::string contents(kBlocks * kBlock, '\0');
      for (char& c : contents) {
        c = static_cast<char>(random());
      }
      std::ofstream(dir_ / name, std::ios::binary) << contents;
      options_.files.push_back(dir_ / name);
      contents_.push_back(std::move(contents));
    }
    memory_ = static_cast<std::byte*>(std::aligned_alloc(kBlock, 2 * kBlocks * kBlock));
    options_.how.engine = GetParam();
    options_.how.queue_depth = 4;
    options_.how.allow_buffered = true;  // the temporary directory may be in memory
    options_.buffers = {{memory_, kBlocks * kBlock}};
  }
  DirectReading(const DirectReading&) = delete;
  DirectReading& operator=(const DirectReading&) = delete;
  ~DirectReading() override {
    std::free(memory_);
    std::filesystem::remove_all(dir_);
  }
  void SetUp() override {
    if (options_.how.engine == "io_uring" && testing_support::IsEmulated()) {
      GTEST_SKIP() << "emulators have no io_uring";
    }
  }

  // Block `tag` of the two files, one after the other, to the same place in memory.
  ReadRequest Block(uint64_t tag) {
    return {tag,
            static_cast<int32_t>(tag / kBlocks),
            tag % kBlocks * kBlock,
            {memory_ + tag * kBlock, kBlock}};
  }
  bool Matches(uint64_t tag) const {
    return std::memcmp(memory_ + tag * kBlock,
                       contents_[tag / kBlocks].data() + tag % kBlocks * kBlock, kBlock) == 0;
  }
  static std::vector<ReadResult> WaitFor(DirectReader& reader, size_t count) {
    std::vector<ReadResult> results;
    while (results.size() < count) {
      for (const ReadResult& result : reader.Wait()) {
        results.push_back(result);
      }
    }
    return results;
  }

  std::filesystem::path dir_;
  std::vector<std::string> contents_;
  std::byte* memory_ = nullptr;  // the first half is registered, the second is not
  DirectReaderOptions options_;
};

TEST_P(DirectReading, ReadsManyBlocksOfSeveralFiles) {
  const auto reader = OpenDirectReader(options_);
  EXPECT_EQ(reader->engine(), GetParam());
  std::vector<ReadRequest> requests;
  for (uint64_t tag = 0; tag < 2 * kBlocks; ++tag) {
    requests.push_back(Block(tag));
  }
  reader->Submit(requests);
  for (const ReadResult& result : WaitFor(*reader, requests.size())) {
    EXPECT_EQ(result.error, 0);
    EXPECT_EQ(result.bytes, kBlock);
    EXPECT_TRUE(Matches(result.tag));
  }
}

TEST_P(DirectReading, GoesOnAfterAShortCall) {
  options_.max_bytes_per_call = 8192;
  const auto reader = OpenDirectReader(options_);
  for (uint64_t tag = 0; tag < 8; ++tag) {
    reader->Submit({{Block(tag)}});
  }
  for (const ReadResult& result : WaitFor(*reader, 8)) {
    EXPECT_EQ(result.bytes, kBlock);
    EXPECT_TRUE(Matches(result.tag));
  }
}

TEST_P(DirectReading, TheEndOfAFileIsAShortResult) {
  std::filesystem::resize_file(dir_ / "b", 3 * kBlock + 5000);
  const auto reader = OpenDirectReader(options_);
  reader->Submit({{Block(kBlocks + 3), Block(kBlocks + 4), Block(kBlocks + 2)}});
  std::map<uint64_t, ReadResult> by_tag;
  for (const ReadResult& result : WaitFor(*reader, 3)) {
    by_tag[result.tag] = result;
    EXPECT_EQ(result.error, 0);
  }
  EXPECT_EQ(by_tag[kBlocks + 2].bytes, kBlock);
  EXPECT_EQ(by_tag[kBlocks + 3].bytes, 5000U);
  EXPECT_EQ(by_tag[kBlocks + 4].bytes, 0U);
}

TEST_P(DirectReading, ErrorsAreResults) {
  const auto reader = OpenDirectReader(options_);
  ReadRequest request = Block(0);
  request.out = {reinterpret_cast<std::byte*>(uintptr_t{4096}), kBlock};  // not ours
  reader->Submit({{request}});
  EXPECT_EQ(WaitFor(*reader, 1)[0].error, EFAULT);
  reader->Submit({{Block(1)}});
  EXPECT_EQ(WaitFor(*reader, 1)[0].error, 0);
}

TEST_P(DirectReading, InterruptEndsAWait) {
  const auto reader = OpenDirectReader(options_);
  reader->Interrupt();
  EXPECT_TRUE(reader->Wait().empty());
  std::thread waiter([&reader] { EXPECT_TRUE(reader->Wait().empty()); });
  reader->Interrupt();
  waiter.join();
}

TEST_P(DirectReading, ReadsSubmittedWhileAnotherThreadWaitsAreDone) {
  const auto reader = OpenDirectReader(options_);
  std::thread waiter([&] {
    for (const ReadResult& result : WaitFor(*reader, 2 * kBlocks)) {
      EXPECT_TRUE(Matches(result.tag));
    }
  });
  for (uint64_t tag = 0; tag < 2 * kBlocks; ++tag) {
    reader->Submit({{Block(tag)}});
  }
  waiter.join();
}

TEST_P(DirectReading, CancelledReadsGiveNoResult) {
  const auto reader = OpenDirectReader(options_);
  std::vector<ReadRequest> requests;
  for (uint64_t tag = 0; tag < kBlocks; ++tag) {
    requests.push_back(Block(tag));
    requests.back().priority = ReadPriority::kPrefetch;
  }
  reader->Submit(requests);
  size_t cancelled = 0;
  for (uint64_t tag = 0; tag < kBlocks; tag += 2) {
    cancelled += reader->Cancel(tag) ? 1 : 0;
    reader->Promote(tag + 1, ReadPriority::kDemand);
  }
  EXPECT_FALSE(reader->Cancel(1000));
  EXPECT_EQ(WaitFor(*reader, kBlocks - cancelled).size(), kBlocks - cancelled);
  reader->Submit({{Block(kBlocks)}});
  EXPECT_EQ(WaitFor(*reader, 1)[0].tag, kBlocks);
}

// Once the reader is gone, nothing writes to the memory any more.
TEST_P(DirectReading, EndsWithReadsUnderWay) {
  auto reader = OpenDirectReader(options_);
  for (uint64_t tag = 0; tag < 2 * kBlocks; ++tag) {
    reader->Submit({{Block(tag)}});
  }
  reader.reset();
  const std::vector<std::byte> pattern(2 * kBlocks * kBlock, std::byte{0x5a});
  std::memcpy(memory_, pattern.data(), pattern.size());
  // Long enough for reads that were left behind: as many again, elsewhere.
  std::byte* const before = memory_;
  memory_ = static_cast<std::byte*>(std::aligned_alloc(kBlock, 2 * kBlocks * kBlock));
  options_.buffers.clear();
  reader = OpenDirectReader(options_);
  for (uint64_t tag = 0; tag < 2 * kBlocks; ++tag) {
    reader->Submit({{Block(tag)}});
  }
  WaitFor(*reader, 2 * kBlocks);
  EXPECT_EQ(std::memcmp(before, pattern.data(), pattern.size()), 0);
  reader.reset();
  std::free(before);
}

TEST_P(DirectReading, RefusesWhatMakesNoSense) {
  options_.how.queue_depth = 0;
  EXPECT_THROW(OpenDirectReader(options_), Error);
  options_.how.queue_depth = 4;
  options_.files.push_back(dir_ / "missing");
  try {
    OpenDirectReader(options_);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kNotFound);
    EXPECT_THAT(error.what(), testing::HasSubstr("missing"));
  }
}

TEST_P(DirectReading, InjectedFaultsHitTheReadsTheyAreMeantFor) {
  constexpr ReadFault kFaults[] = {ReadFault::kLate, ReadFault::kNone, ReadFault::kShort,
                                   ReadFault::kFail, ReadFault::kBitFlip};
  const auto reader = InjectFaults(OpenDirectReader(options_), [&](uint64_t index, const auto&) {
    return kFaults[index % std::size(kFaults)];
  });
  reader->Submit({{Block(0), Block(1), Block(2), Block(3), Block(4)}});
  const std::vector<ReadResult> results = WaitFor(*reader, 5);
  EXPECT_EQ(results.back().tag, 0U);  // the late one
  EXPECT_TRUE(Matches(0));
  EXPECT_TRUE(Matches(1));
  EXPECT_FALSE(Matches(2));
  EXPECT_FALSE(Matches(4));
  for (const ReadResult& result : results) {
    EXPECT_EQ(result.error, result.tag == 3 ? EIO : 0);
    EXPECT_EQ(result.bytes, result.tag == 2 ? kBlock / 2 : result.tag == 3 ? 0 : kBlock);
  }
}

INSTANTIATE_TEST_SUITE_P(Engines, DirectReading, testing::Values("io_uring", "pread"));

#if defined(__linux__)
// The calling thread's io_uring_enter fails with `error` from now on. False where that is not
// allowed.
bool RefuseUringEnter(unsigned error) {
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_enter, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog filter = {static_cast<uint16_t>(std::size(program)), program};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

class RefusedReading : public DirectReading {};

// More reads than the ring has entries: those that were refused leave it again.
TEST_P(RefusedReading, WhatTheKernelDoesNotTakeFails) {
  const auto reader = OpenDirectReader(options_);
  bool allowed = true;
  testing::internal::CaptureStderr();
  std::thread waiter([&] {
    allowed = RefuseUringEnter(EBADF);
    if (!allowed) {
      return;
    }
    for (int round = 0; round < 2; ++round) {
      std::vector<ReadRequest> requests;
      for (uint64_t tag = 0; tag < kBlocks; ++tag) {
        requests.push_back(Block(tag));
      }
      reader->Submit(requests);
      for (const ReadResult& result : WaitFor(*reader, kBlocks)) {
        EXPECT_EQ(result.error, EBADF);
      }
    }
    reader->Interrupt();
    EXPECT_TRUE(reader->Wait().empty());
  });
  waiter.join();
  const std::string log = testing::internal::GetCapturedStderr();
  if (!allowed) {
    GTEST_SKIP() << "seccomp is refused here";
  }
  const std::string line = "io_uring takes no reads";
  EXPECT_THAT(log, testing::HasSubstr(line));
  EXPECT_EQ(log.find(line), log.rfind(line));
  // On a thread where it works it goes on.
  reader->Submit({{Block(1)}});
  EXPECT_EQ(WaitFor(*reader, 1)[0].error, 0);
  EXPECT_TRUE(Matches(1));
}

INSTANTIATE_TEST_SUITE_P(Engines, RefusedReading, testing::Values("io_uring"));
#endif

// One read is in flight at a time, so the order of results is the order in which reads began.
TEST(ReadPriority, DecidesWhichReadBeginsNext) {
  if (testing_support::IsEmulated()) {
    GTEST_SKIP() << "emulators have no io_uring";
  }
  std::string pattern = (std::filesystem::temp_directory_path() / "mach-XXXXXX").string();
  const std::filesystem::path dir = ::mkdtemp(pattern.data());
  std::ofstream(dir / "a", std::ios::binary) << std::string(8 * kBlock, 'x');
  DirectReaderOptions options;
  options.files = {dir / "a"};
  options.how.queue_depth = 1;
  options.how.allow_buffered = true;
  options.how.engine = "io_uring";
  {
    const auto reader = OpenDirectReader(options);
    auto* memory = static_cast<std::byte*>(std::aligned_alloc(kBlock, 8 * kBlock));
    std::vector<ReadRequest> requests;
    for (uint64_t tag = 0; tag < 8; ++tag) {
      requests.push_back({tag,
                          0,
                          tag * kBlock,
                          {memory + tag * kBlock, kBlock},
                          tag < 4   ? ReadPriority::kPrefetch
                          : tag < 6 ? ReadPriority::kDemand
                                    : ReadPriority::kUrgent});
    }
    reader->Submit(requests);  // nothing begins before Wait is called
    reader->Promote(2, ReadPriority::kDemand);
    reader->Promote(3, ReadPriority::kUrgent);
    reader->Promote(6, ReadPriority::kDemand);  // it is more urgent already
    std::vector<uint64_t> order;
    while (order.size() < 8) {
      for (const ReadResult& result : reader->Wait()) {
        order.push_back(result.tag);
      }
    }
    EXPECT_THAT(order, testing::ElementsAre(6, 7, 3, 4, 5, 2, 0, 1));
    std::free(memory);
  }
  std::filesystem::remove_all(dir);
}

}  // namespace
}  // namespace mach
