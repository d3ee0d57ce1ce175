#include <atomic>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "platform/control_group.h"
#include "platform/cpu.h"
#include "platform/file.h"
#include "platform/thread_pool.h"

namespace mach {
namespace {

class TemporaryDir {
 public:
  TemporaryDir() {
    std::string pattern = (std::filesystem::temp_directory_path() / "mach-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  TemporaryDir(const TemporaryDir&) = delete;
  TemporaryDir& operator=(const TemporaryDir&) = delete;
  ~TemporaryDir() { std::filesystem::remove_all(path_); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

TEST(File, WritesAtomicallyAndReadsBack) {
  const TemporaryDir dir;
  const auto path = dir.path() / "a.json";
  WriteFileAtomically(path, "first");
  WriteFileAtomically(path, "second");
  EXPECT_EQ(ReadWholeFile(path), "second");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir.path()), {}), 1);
}

// Threads share their process id, as the first processes of two containers do.
TEST(File, WritersOfOneFileDoNotMix) {
  const TemporaryDir dir;
  const auto path = dir.path() / "heat.bin";
  constexpr int kWriters = 4;
  std::atomic<bool> done = false;
  std::thread cleaner([&] {
    while (!done.load()) {
      RemoveStaleTemporaries(path);
    }
  });
  std::vector<std::thread> writers;
  std::vector<std::string> errors(kWriters);
  for (int writer = 0; writer < kWriters; ++writer) {
    writers.emplace_back([&, writer] {
      const std::string contents(100'000 + static_cast<size_t>(writer),
                                 static_cast<char>('a' + writer));
      try {
        for (int i = 0; i < 25; ++i) {
          WriteFileAtomically(path, contents);
          const std::string found = ReadWholeFile(path);
          const auto from = static_cast<size_t>(found.at(0) - 'a');
          if (found != std::string(100'000 + from, found[0])) {
            errors[static_cast<size_t>(writer)] = "a mixture";
          }
        }
      } catch (const Error& error) {
        errors[static_cast<size_t>(writer)] = error.what();
      }
    });
  }
  for (std::thread& writer : writers) {
    writer.join();
  }
  done = true;
  cleaner.join();
  EXPECT_EQ(errors, std::vector<std::string>(kWriters));
  RemoveStaleTemporaries(path);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir.path()), {}), 1);
}

TEST(File, RemovesTemporariesThatNobodyWrites) {
  const TemporaryDir dir;
  const auto path = dir.path() / "heat.bin";
  for (const char* name :
       {"heat.bin", "heat.bin.tmp-12", "heat.bin.tmp-34", "heat.bin.tmp-", "heat.bin.tmp-5x",
        "other.bin.tmp-12", "heat.bin.tmp-0123456789abcdef"}) {
    std::ofstream(dir.path() / name) << name;
  }
  std::filesystem::create_symlink(path, dir.path() / "heat.bin.tmp-56");
  std::filesystem::create_directory(dir.path() / "heat.bin.tmp-78");
  const int writing = ::open((dir.path() / "heat.bin.tmp-34").c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_EQ(::flock(writing, LOCK_EX), 0);
  RemoveStaleTemporaries(path);
  EXPECT_FALSE(std::filesystem::exists(dir.path() / "heat.bin.tmp-12"));
  EXPECT_FALSE(std::filesystem::exists(dir.path() / "heat.bin.tmp-0123456789abcdef"));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir.path()), {}), 7);
  ::close(writing);
  RemoveStaleTemporaries(path);
  EXPECT_FALSE(std::filesystem::exists(dir.path() / "heat.bin.tmp-34"));
  RemoveStaleTemporaries(dir.path() / "missing" / "heat.bin");
}

TEST(File, ErrorsNameThePath) {
  const TemporaryDir dir;
  try {
    ReadWholeFile(dir.path() / "missing");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kNotFound);
    EXPECT_NE(error.Describe().find("missing"), std::string::npos);
  }
  EXPECT_THROW(ReadWholeFile(dir.path()), Error);  // a directory
  WriteFileAtomically(dir.path() / "big", std::string(100, 'x'));
  try {
    ReadWholeFile(dir.path() / "big", 99);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kResourceLimit);
  }
}

TEST(File, ScanSeesEveryByteInOrder) {
  const TemporaryDir dir;
  for (const size_t size : {size_t{0}, size_t{1}, size_t{4096}, (size_t{9} << 20) + 123}) {
    std::string contents(size, '\0');
    for (size_t i = 0; i < size; ++i) {
      contents[i] = static_cast<char>(i * 2654435761U >> 13);
    }
    const std::filesystem::path path = dir.path() / "scanned";
    WriteFileAtomically(path, contents);
    std::string seen;
    ScanFile(path, [&seen](std::span<const std::byte> piece) {
      seen.append(reinterpret_cast<const char*>(piece.data()), piece.size());
    });
    EXPECT_TRUE(seen == contents) << size;
  }
  EXPECT_THROW(ScanFile(dir.path() / "missing", [](std::span<const std::byte>) {}), Error);
  EXPECT_THROW(ScanFile(dir.path(), [](std::span<const std::byte>) {}), Error);
}

TEST(File, AMappedFileThatShrinksIsNamed) {
  const TemporaryDir dir;
  const auto path = dir.path() / "weights";
  constexpr size_t kPage = 4096;
  WriteFileAtomically(path, std::string(16 * kPage, 'w'));
  WriteFileAtomically(dir.path() / "other", std::string(kPage, 'o'));
  const auto file = OpenMappedFile(path);
  const auto other = OpenMappedFile(dir.path() / "other");
  const auto bytes = file->Mapped();
  EXPECT_NO_THROW(file->Drop(bytes.first(kPage)));
  std::filesystem::resize_file(path, 4 * kPage);
  EXPECT_EQ(bytes[4 * kPage - 1], std::byte{'w'});
  std::vector<std::thread> readers;  // several meet it at once
  for (size_t reader = 0; reader < 4; ++reader) {
    readers.emplace_back([&bytes, reader] {
      for (size_t at = (4 + reader) * kPage; at < bytes.size(); at += kPage) {
        EXPECT_EQ(bytes[at], std::byte{0});
      }
    });
  }
  for (std::thread& reader : readers) {
    reader.join();
  }
  for (const bool drop : {false, true}) {
    try {
      drop ? file->Drop(bytes) : file->RequireIntact();
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kIo);
      EXPECT_NE(error.Describe().find(path.string() + " was cut off while it was read"),
                std::string::npos)
          << error.Describe();
    }
  }
  std::vector<std::byte> out(1);
  EXPECT_THROW(file->ReadAt(5 * kPage, out), Error);
  // That it is whole again does not mend what was read meanwhile.
  std::filesystem::resize_file(path, 16 * kPage);
  EXPECT_THROW(file->RequireIntact(), Error);
  EXPECT_NO_THROW(other->Drop(other->Mapped()));
  EXPECT_EQ(other->Mapped()[0], std::byte{'o'});
}

// A sanitizer reports the signal and exits.
bool EndedByBusError(int status) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return WIFSIGNALED(status) || WEXITSTATUS(status) != 0;
#else
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS;
#endif
}

// What is not a mapping of ours ends the process as ever.
TEST(FileDeathTest, OtherBusErrorsAreFatal) {
  EXPECT_EXIT(
      {
        const TemporaryDir dir;
        WriteFileAtomically(dir.path() / "f", "f");
        const auto file = OpenMappedFile(dir.path() / "f");
        (void)::raise(SIGBUS);
      },
      EndedByBusError, "");
}

TEST(File, MappedReadsStayInside) {
  const TemporaryDir dir;
  WriteFileAtomically(dir.path() / "f", "0123456789");
  const auto file = OpenMappedFile(dir.path() / "f");
  ASSERT_EQ(file->size_bytes(), 10U);
  std::vector<std::byte> out(4);
  file->ReadAt(6, out);
  EXPECT_EQ(static_cast<char>(out[3]), '9');
  for (const uint64_t offset : {uint64_t{7}, uint64_t{11}, ~uint64_t{0}}) {
    try {
      file->ReadAt(offset, out);
      FAIL() << offset;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kCorruptFile);
    }
  }
  WriteFileAtomically(dir.path() / "empty", "");
  EXPECT_TRUE(OpenMappedFile(dir.path() / "empty")->Mapped().empty());
}

TEST(ThreadPool, CoversEachIndexOnce) {
  for (const int threads : {1, 2, 3, 7}) {
    ThreadPool pool(threads);
    for (const int64_t count : {int64_t{0}, int64_t{1}, int64_t{5}, int64_t{64}, int64_t{1001}}) {
      for (const int64_t grain : {int64_t{1}, int64_t{16}, int64_t{2000}}) {
        std::vector<std::atomic<int>> hits(static_cast<size_t>(count));
        pool.ParallelFor(count, grain, [&](int64_t begin, int64_t end, int) {
          EXPECT_EQ(begin % grain, 0);
          for (int64_t i = begin; i < end; ++i) {
            hits[static_cast<size_t>(i)].fetch_add(1);
          }
        });
        for (const auto& hit : hits) {
          EXPECT_EQ(hit.load(), 1);
        }
      }
    }
  }
}

TEST(ThreadPool, ManyShortLoops) {
  ThreadPool pool(3);
  std::atomic<int64_t> sum{0};
  for (int i = 0; i < 4000; ++i) {
    pool.Run([&](int worker) { sum.fetch_add(worker); });
  }
  EXPECT_EQ(sum.load(), 4000 * 3);
}

TEST(ThreadPool, RethrowsAndGoesOn) {
  ThreadPool pool(3);
  for (const int thrower : {0, 1, 2}) {
    EXPECT_THROW(pool.Run([&](int worker) {
      if (worker == thrower) {
        throw std::runtime_error("x");
      }
    }),
                 std::runtime_error);
  }
  std::atomic<int> ran{0};
  pool.Run([&](int) { ran.fetch_add(1); });
  EXPECT_EQ(ran.load(), 3);
}

TEST(ThreadPool, ADryOneCallsNothing) {
  ThreadPool pool = ThreadPool::Dry(5);
  EXPECT_EQ(pool.threads(), 5);
  pool.Run([](int) { FAIL(); });
  pool.RunAlone([] { FAIL(); });
  pool.ParallelFor(100, 1, [](int64_t, int64_t, int) { FAIL(); });
  pool.ParallelFor(1, 1, [](int64_t, int64_t, int) { FAIL(); });
}

TEST(Cpu, IsaFromTheEnvironment) {
  EXPECT_EQ(SupportedIsas().front(), Isa::kScalar);
  ::setenv("MACH_ISA", "scalar", 1);
  EXPECT_EQ(BestIsa(), Isa::kScalar);
  ::setenv("MACH_ISA", "mmx", 1);
  EXPECT_THROW(BestIsa(), Error);
  ::unsetenv("MACH_ISA");
  EXPECT_EQ(BestIsa(), SupportedIsas().back());
  EXPECT_GE(PhysicalCores(), 1);
}

class ControlGroups : public testing::Test {
 protected:
  void Write(const std::string& file, const std::string& text) const {
    const std::filesystem::path path = dir_.path() / file;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }
  std::optional<uint64_t> Room(const std::string& membership) const {
    return ControlGroupRoom(membership, dir_.path());
  }
  std::optional<int> Processors(const std::string& membership) const {
    return ControlGroupProcessors(membership, dir_.path());
  }

  TemporaryDir dir_;
};

TEST_F(ControlGroups, Version2CountsPageCacheAsRoom) {
  EXPECT_EQ(Room("0::/a/b\n"), std::nullopt);
  Write("a/b/memory.max", "max\n");
  EXPECT_EQ(Room("0::/a/b\n"), std::nullopt);
  Write("a/b/memory.max", "1000\n");
  EXPECT_EQ(Room("0::/a/b\n"), 1000U);
  Write("a/b/memory.current", "900\n");
  EXPECT_EQ(Room("0::/a/b\n"), 100U);
  Write("a/b/memory.stat", "anon 300\nfile 600\ninactive_file 400\nactive_file 150\nslab 1\n");
  EXPECT_EQ(Room("0::/a/b\n"), 650U);
  // The group above leaves less.
  Write("a/memory.max", "2000\n");
  Write("a/memory.current", "1990\n");
  EXPECT_EQ(Room("0::/a/b\n"), 10U);
  // Known, and nothing left.
  Write("a/memory.current", "2100\n");
  EXPECT_EQ(Room("0::/a/b\n"), 1U);
  EXPECT_EQ(Room("0::/elsewhere\n"), std::nullopt);
}

TEST_F(ControlGroups, Version1) {
  const std::string membership = "9:cpu,cpuacct:/other\n4:memory:/job/1\n0::/\n";
  Write("memory/memory.limit_in_bytes", "9223372036854771712\n");
  Write("memory/memory.usage_in_bytes", "5000\n");
  EXPECT_EQ(Room(membership), std::nullopt);
  Write("memory/job/1/memory.limit_in_bytes", "1000\n");
  Write("memory/job/1/memory.usage_in_bytes", "950\n");
  Write("memory/job/1/memory.stat",
        "inactive_file 1\nactive_file 1\ntotal_inactive_file 200\ntotal_active_file 100\n");
  EXPECT_EQ(Room(membership), 350U);
  // From inside a container the root of the mount is the group itself.
  Write("memory/memory.limit_in_bytes", "600\n");
  Write("memory/memory.usage_in_bytes", "500\n");
  EXPECT_EQ(Room("4:memory:/docker/xyz\n"), 100U);
}

TEST_F(ControlGroups, ProcessorsOfVersion2AreRoundedUp) {
  EXPECT_EQ(Processors("0::/a/b\n"), std::nullopt);
  Write("a/b/cpu.max", "max 100000\n");
  EXPECT_EQ(Processors("0::/a/b\n"), std::nullopt);
  Write("a/b/cpu.max", "200000 100000\n");
  EXPECT_EQ(Processors("0::/a/b\n"), 2);
  Write("a/b/cpu.max", "250001 100000\n");
  EXPECT_EQ(Processors("0::/a/b\n"), 3);
  Write("a/b/cpu.max", "1000 100000\n");
  EXPECT_EQ(Processors("0::/a/b\n"), 1);
  // The group above leaves less, and inside a container the root is the group.
  Write("a/b/cpu.max", "800000 100000\n");
  Write("a/cpu.max", "400000 100000\n");
  EXPECT_EQ(Processors("0::/a/b\n"), 4);
  Write("cpu.max", "300000 100000\n");
  EXPECT_EQ(Processors("0::/elsewhere\n"), 3);
  Write("cpu.max", "nonsense\n");
  EXPECT_EQ(Processors("0::/elsewhere\n"), std::nullopt);
}

TEST_F(ControlGroups, ProcessorsOfVersion1) {
  const std::string membership = "9:cpu,cpuacct:/job/1\n4:memory:/other\n0::/\n";
  Write("cpu/cpu.cfs_quota_us", "-1\n");
  Write("cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(Processors(membership), std::nullopt);
  Write("cpu/job/1/cpu.cfs_quota_us", "150000\n");
  EXPECT_EQ(Processors(membership), std::nullopt);  // of an unknown period
  Write("cpu/job/1/cpu.cfs_period_us", "50000\n");
  EXPECT_EQ(Processors(membership), 3);
}

}  // namespace
}  // namespace mach
