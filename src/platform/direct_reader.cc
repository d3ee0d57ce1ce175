#include "platform/direct_reader.h"

#include <cerrno>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <thread>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "platform/direct_reader_internal.h"

namespace mach {
namespace internal {
namespace {

int64_t PreadOnce(int fd, std::byte* out, uint64_t bytes, uint64_t offset_bytes) {
  for (;;) {
    const ssize_t count = ::pread(fd, out, bytes, static_cast<off_t>(offset_bytes));
    if (count >= 0) {
      return count;
    }
    if (errno != EINTR) {
      return -errno;
    }
  }
}

int OpenFile(const std::filesystem::path& path, bool direct) {
  int flags = O_RDONLY | O_CLOEXEC;
#if defined(O_DIRECT)
  flags |= direct ? O_DIRECT : 0;
#endif
  const int fd = ::open(path.c_str(), flags);
#if defined(F_NOCACHE)
  if (fd >= 0 && direct) {
    ::fcntl(fd, F_NOCACHE, 1);
  }
#endif
  return fd;
}

// Some file systems accept the flag and refuse the read.
bool ReadsDirectly(int fd) {
  struct FreeDelete {
    void operator()(void* memory) const { std::free(memory); }
  };
  const std::unique_ptr<void, FreeDelete> page(
      std::aligned_alloc(DirectReader::kAlignment, DirectReader::kAlignment));
  return page != nullptr &&
         PreadOnce(fd, static_cast<std::byte*>(page.get()), DirectReader::kAlignment, 0) != -EINVAL;
}

}  // namespace

ReadFiles::ReadFiles(const std::vector<std::filesystem::path>& paths, bool allow_buffered) {
  fds_.reserve(paths.size());
  for (const std::filesystem::path& path : paths) {
    int fd = OpenFile(path, /*direct=*/true);
    int error = fd < 0 ? errno : 0;
    if (fd >= 0 && !ReadsDirectly(fd)) {
      ::close(fd);
      fd = -1;
      error = EINVAL;
    }
    if (error == EINVAL && allow_buffered) {
      fd = OpenFile(path, /*direct=*/false);
      error = fd < 0 ? errno : 0;
      direct_ = false;
    }
    if (fd >= 0) {
      fds_.push_back(fd);
      continue;
    }
    for (const int open : fds_) {
      ::close(open);
    }
    if (error == EINVAL) {
      throw Error(ErrorCode::kUnsupported,
                  "the file system of " + path.string() + " refuses direct reads",
                  "move it to a local disk, or accept reads through the page cache with "
                  "--allow-buffered-io");
    }
    const bool missing = error == ENOENT || error == ENOTDIR;
    throw Error(missing ? ErrorCode::kNotFound : ErrorCode::kIo,
                "cannot open " + path.string() + ": " + std::strerror(error));
  }
}

ReadFiles::~ReadFiles() {
  for (const int fd : fds_) {
    ::close(fd);
  }
}

bool ReadProgress::Advance(int64_t returned, int fd, ReadResult& result) {
  result = {request.tag, done_bytes, 0};
  if (returned == -EINTR || returned == -EAGAIN) {
    return false;
  }
  if (returned < 0) {
    result.error = static_cast<int>(-returned);
    return true;
  }
  done_bytes += static_cast<uint64_t>(returned);
  result.bytes = done_bytes;
  if (left_bytes() == 0 || returned == 0) {
    return true;
  }
  const uint64_t over = done_bytes % DirectReader::kAlignment;
  if (over != 0) {
    struct stat status = {};
    if (::fstat(fd, &status) != 0) {
      result.error = errno;
      return true;
    }
    if (position() >= static_cast<uint64_t>(status.st_size)) {
      return true;  // the file ends here
    }
    done_bytes -= over;
  }
  return false;
}

namespace {

// One thread for each read in flight.
class PreadReader final : public DirectReader {
 public:
  PreadReader(const DirectReaderOptions& options, std::unique_ptr<ReadFiles> files)
      : files_(std::move(files)), max_bytes_per_call_(options.max_bytes_per_call) {
    results_.reserve(kMaxResults);
    returned_.reserve(kMaxResults);
    threads_.reserve(static_cast<size_t>(options.how.queue_depth));
    try {
      for (int32_t i = 0; i < options.how.queue_depth; ++i) {
        threads_.emplace_back([this] { ReadLoop(); });
      }
    } catch (...) {
      Stop();
      throw;
    }
  }
  PreadReader(const PreadReader&) = delete;
  PreadReader& operator=(const PreadReader&) = delete;
  ~PreadReader() override { Stop(); }

  void Submit(std::span<const ReadRequest> requests) override {
    {
      const std::lock_guard lock(mutex_);
      queue_.Push(requests);
    }
    if (requests.size() == 1) {
      work_.notify_one();
    } else {
      work_.notify_all();
    }
  }
  void Promote(uint64_t tag, ReadPriority priority) override {
    const std::lock_guard lock(mutex_);
    queue_.Promote(tag, priority);
  }
  bool Cancel(uint64_t tag) override {
    const std::lock_guard lock(mutex_);
    return queue_.Remove(tag);
  }

  std::span<const ReadResult> Wait() override {
    std::unique_lock lock(mutex_);
    ended_.wait(lock, [this] { return interrupted_ || !results_.empty(); });
    interrupted_ = false;
    returned_.clear();
    returned_.swap(results_);
    if (std::exchange(places_, places_ + returned_.size()) == 0) {
      work_.notify_all();
    }
    return returned_;
  }
  void Interrupt() override {
    const std::lock_guard lock(mutex_);
    interrupted_ = true;
    ended_.notify_one();
  }

  const char* engine() const override { return "pread"; }
  bool direct() const override { return files_->direct(); }

 private:
  // That nobody has taken yet; then no read begins. Each has its place before its read begins, so
  // the threads allocate nothing and cannot fail.
  static constexpr size_t kMaxResults = 4096;

  void Stop() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    work_.notify_all();
    for (std::thread& thread : threads_) {
      thread.join();
    }
  }

  void ReadLoop() {
    std::unique_lock lock(mutex_);
    for (;;) {
      work_.wait(lock, [this] { return stop_ || (places_ > 0 && !queue_.empty()); });
      if (stop_) {
        return;
      }
      --places_;
      ReadProgress read = {queue_.Pop()};
      lock.unlock();
      const ReadResult result = ReadAll(read);
      lock.lock();
      results_.push_back(result);
      ended_.notify_one();
    }
  }

  ReadResult ReadAll(ReadProgress& read) const {
    const int fd = files_->fd(read.request.file);
    ReadResult result;
    while (
        !read.Advance(PreadOnce(fd, read.address(),
                                std::min(read.left_bytes(), max_bytes_per_call_), read.position()),
                      fd, result)) {
    }
    return result;
  }

  const std::unique_ptr<ReadFiles> files_;
  const uint64_t max_bytes_per_call_;
  std::mutex mutex_;
  std::condition_variable work_;   // a read may begin, or stop_
  std::condition_variable ended_;  // results_ is not empty, or interrupted_
  ReadQueue queue_;
  std::vector<ReadResult> results_;
  std::vector<ReadResult> returned_;  // of the last Wait
  size_t places_ = kMaxResults;       // free ones in results_
  bool interrupted_ = false;
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace

std::unique_ptr<DirectReader> MakePreadReader(const DirectReaderOptions& options,
                                              std::unique_ptr<ReadFiles> files) {
  return std::make_unique<PreadReader>(options, std::move(files));
}

}  // namespace internal

std::unique_ptr<DirectReader> OpenDirectReader(const DirectReaderOptions& options) {
  if (options.how.engine != "auto" && options.how.engine != "io_uring" &&
      options.how.engine != "pread") {
    throw Error(ErrorCode::kInvalidArgument, "unknown read engine '" + options.how.engine + "'",
                "choose auto, io_uring or pread");
  }
  constexpr int32_t kMaxDepth = 256;
  if (options.how.queue_depth < 1 || options.how.queue_depth > kMaxDepth) {
    throw Error(ErrorCode::kInvalidArgument, "a read queue depth of " +
                                                 std::to_string(options.how.queue_depth) +
                                                 "; expected 1 to " + std::to_string(kMaxDepth));
  }
  auto files = std::make_unique<internal::ReadFiles>(options.files, options.how.allow_buffered);
  if (options.how.engine != "pread") {
    std::string refusal;
    if (auto reader = internal::MakeUringReader(options, files, refusal)) {
      return reader;
    }
    if (options.how.engine == "io_uring") {
      throw Error(ErrorCode::kUnsupported, "io_uring is refused here: " + refusal,
                  "read with a thread pool instead: pread, or auto to choose by itself");
    }
    LogInfo("io_uring is refused, reading with threads", {{"reason", refusal}});
  }
  return internal::MakePreadReader(options, std::move(files));
}

}  // namespace mach
