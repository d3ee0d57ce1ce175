// Bandwidth of random reads of expert records, four ways over the same files in one run, in turns:
//   uring    a plain io_uring loop, O_DIRECT, no registered anything
//   pread    as many threads as the depth, O_DIRECT
//   prefill  through the streamed store, layers in order, most experts of each
//   decode   through the streamed store, a cold bank, `depth` random experts of each layer in turn:
//            a barrier after each layer, as in decoding
// The store's figures contain checking every record on its first read.
// usage: direct_read_bench DIR [LAYERS=10] [DEPTH=8] [ROUNDS=7] [ENGINE=auto]

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <numeric>
#include <thread>

#include <liburing.h>

#include "base/clock.h"
#include "bench/expert_files.h"
#include "experts/expert_store.h"
#include "tests/support/acquire.h"

namespace mach::bench {
namespace {

using testing_support::Acquire;

constexpr uint64_t kRecordBytes = 27 * 65536;  // 35B-A3B at 4 bits
constexpr int32_t kExperts = 256;
constexpr int32_t kReads = 320;  // in one timing of one way

struct PlainRead {
  int fd;
  uint64_t offset;
};

[[noreturn]] void Die(const char* what, int error) {
  std::fprintf(stderr, "%s: %s\n", what, std::strerror(error));
  std::exit(1);
}

void ReadByUring(const std::vector<PlainRead>& reads, std::byte* memory, int depth) {
  io_uring ring = {};
  if (const int error = ::io_uring_queue_init(static_cast<unsigned>(depth), &ring, 0)) {
    Die("io_uring", -error);
  }
  size_t next = 0;
  const auto start = [&](uint64_t place) {
    if (next < reads.size()) {
      io_uring_sqe* sqe = ::io_uring_get_sqe(&ring);
      ::io_uring_prep_read(sqe, reads[next].fd, memory + place * kRecordBytes, kRecordBytes,
                           reads[next].offset);
      ::io_uring_sqe_set_data64(sqe, place);
      ++next;
    }
  };
  for (int place = 0; place < depth; ++place) {
    start(static_cast<uint64_t>(place));
  }
  for (size_t done = 0; done < reads.size(); ++done) {
    ::io_uring_submit_and_wait(&ring, 1);
    io_uring_cqe* cqe = nullptr;
    if (::io_uring_wait_cqe(&ring, &cqe) != 0 || cqe->res != static_cast<int>(kRecordBytes)) {
      Die("read", EIO);
    }
    const uint64_t place = ::io_uring_cqe_get_data64(cqe);
    ::io_uring_cqe_seen(&ring, cqe);
    start(place);
  }
  ::io_uring_queue_exit(&ring);
}

void ReadByThreads(const std::vector<PlainRead>& reads, std::byte* memory, int depth) {
  std::atomic<size_t> next = 0;
  std::vector<std::thread> threads;
  for (int place = 0; place < depth; ++place) {
    threads.emplace_back([&, place] {
      for (size_t i = next++; i < reads.size(); i = next++) {
        if (::pread(reads[i].fd, memory + static_cast<uint64_t>(place) * kRecordBytes, kRecordBytes,
                    static_cast<off_t>(reads[i].offset)) != static_cast<ssize_t>(kRecordBytes)) {
          Die("pread", errno);
        }
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
}

std::vector<int32_t> Choose(std::mt19937& random, int32_t count) {
  std::vector<int32_t> ids(kExperts);
  std::iota(ids.begin(), ids.end(), 0);
  std::shuffle(ids.begin(), ids.end(), random);
  ids.resize(static_cast<size_t>(count));
  std::sort(ids.begin(), ids.end());
  return ids;
}

void Drain(backend::ExpertLease& lease) {
  while (!lease.Next(nullptr).empty()) {
  }
}

int Run(const std::filesystem::path& dir, int32_t layers, int depth, int rounds,
        const std::string& engine) {
  const ExpertFiles files(dir, layers, kExperts, kRecordBytes);
  std::vector<int> fds;
  for (const formats::SidecarLayer& layer : files.sidecar().moe_layers) {
    fds.push_back(::open(files.sidecar().PathOf(layer).c_str(), O_RDONLY | O_DIRECT));
    if (fds.back() < 0) {
      Die("open", errno);
    }
  }
  MemoryBudget budget;
  Buffer memory(budget, "bench", static_cast<uint64_t>(depth) * kRecordBytes);
  experts::StreamOptions options;
  options.bank_bytes = static_cast<uint64_t>(depth) * kRecordBytes;
  options.top_k = depth;
  options.read.queue_depth = depth;
  options.read.engine = engine;
  const auto store = experts::MakeStreamedStore(files.sidecar(), options, budget, {});

  std::mt19937 random(3);
  const auto plain = [&] {
    std::vector<PlainRead> reads;
    for (int32_t i = 0; i < kReads; ++i) {
      reads.push_back({fds[random() % fds.size()], random() % kExperts * kRecordBytes});
    }
    return reads;
  };
  int32_t layer = 0;
  struct Way {
    const char* name;
    std::function<void()> read;
    std::vector<double> gb_per_s;
  };
  std::vector<Way> ways;
  ways.push_back({"uring", [&] { ReadByUring(plain(), memory.data(), depth); }, {}});
  ways.push_back({"pread", [&] { ReadByThreads(plain(), memory.data(), depth); }, {}});
  ways.push_back(
      {"prefill",
       [&] {
         for (int32_t begun = 0; begun < kReads; begun += 160) {
           layer = (layer + 1) % layers;
           Drain(*Acquire(*store, layer, Choose(random, 160), backend::ExpertUse::kPrefill));
         }
       },
       {}});
  ways.push_back(
      {"decode",
       [&] {
         for (int32_t begun = 0; begun < kReads; begun += depth) {
           layer = (layer + 1) % layers;
           Drain(*Acquire(*store, layer, Choose(random, depth), backend::ExpertUse::kDecode));
         }
       },
       {}});
  std::vector<double> hash_gb_per_s;
  for (int round = 0; round < rounds; ++round) {
    for (Way& way : ways) {
      const uint64_t before = store->Stats().bytes_read;
      const Stopwatch watch;
      way.read();
      const double seconds = watch.ElapsedSeconds();
      const uint64_t through_store = store->Stats().bytes_read - before;
      const uint64_t bytes = through_store > 0 ? through_store : kReads * kRecordBytes;
      way.gb_per_s.push_back(static_cast<double>(bytes) / seconds * 1e-9);
    }
    const Stopwatch watch;
    volatile char sink = HashHex128({memory.data(), memory.size_bytes()})[0];
    (void)sink;
    hash_gb_per_s.push_back(static_cast<double>(memory.size_bytes()) / watch.ElapsedSeconds() *
                            1e-9);
  }
  const experts::ExpertStats stats = store->Stats();
  std::printf("%d layers, depth %d, store by %s, direct %d; medians of %d\n", layers, depth,
              stats.io.c_str(), stats.direct, rounds);
  for (const Way& way : ways) {
    std::vector<double> ratios;
    for (size_t i = 0; i < way.gb_per_s.size(); ++i) {
      ratios.push_back(way.gb_per_s[i] / std::max(ways[0].gb_per_s[i], ways[1].gb_per_s[i]));
    }
    std::printf("%-8s %6.3f GB/s (%.3f to %.3f)  %.3f of the faster plain way\n", way.name,
                Median(way.gb_per_s), *std::min_element(way.gb_per_s.begin(), way.gb_per_s.end()),
                *std::max_element(way.gb_per_s.begin(), way.gb_per_s.end()), Median(ratios));
  }
  std::printf("%-8s %6.3f GB/s\n", "XXH3-128", Median(hash_gb_per_s));
  for (const int fd : fds) {
    ::close(fd);
  }
  return 0;
}

}  // namespace
}  // namespace mach::bench

int main(int argc, char** argv) {
  const bool has_flag =
      std::any_of(argv + 1, argv + argc, [](const char* word) { return word[0] == '-'; });
  if (argc < 2 || argc > 6 || has_flag) {
    std::fprintf(stderr, "usage: direct_read_bench DIR [LAYERS] [DEPTH] [ROUNDS] [ENGINE]\n");
    return 2;
  }
  const auto number = [&](int index, int otherwise) {
    return argc > index ? std::atoi(argv[index]) : otherwise;
  };
  try {
    return mach::bench::Run(argv[1], number(2, 10), number(3, 8), number(4, 7),
                            argc > 5 ? argv[5] : "auto");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "direct_read_bench: %s\n", error.what());
    return 1;
  }
}
