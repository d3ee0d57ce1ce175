#include "platform/direct_reader_internal.h"

#if defined(__linux__)

#include <cerrno>
#include <cstring>
#include <mutex>
#include <utility>

#include <liburing.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "base/quietly.h"

namespace mach::internal {
namespace {

// The kernel takes at most 1 GiB in one registered buffer. A read across two of them goes
// unregistered, which is rare and only slower.
constexpr uint64_t kMaxRegisteredBytes = 1ULL << 30;
constexpr uint64_t kWakeTag = UINT64_MAX;

// So often, at this distance, the kernel may refuse to take reads before those are given up.
constexpr int kMostRefusals = 100;
constexpr int kRefusalPauseMs = 10;

// Only the waiting thread touches the ring; the others queue their reads and wake it.
class UringReader final : public DirectReader {
 public:
  UringReader(const DirectReaderOptions& options, std::unique_ptr<ReadFiles>& files)
      : max_bytes_per_call_(options.max_bytes_per_call),
        reads_(static_cast<size_t>(options.how.queue_depth)),
        entries_(reads_.size(), 0) {
    for (size_t i = reads_.size(); i-- > 0;) {
      free_.push_back(i);
    }
    results_.reserve(reads_.size());
    const auto entries = static_cast<unsigned>(2 * options.how.queue_depth + 2);
    open_error_ = ::io_uring_queue_init(entries, &ring_, IORING_SETUP_COOP_TASKRUN);
    if (open_error_ == -EINVAL) {  // before Linux 5.19
      open_error_ = ::io_uring_queue_init(entries, &ring_, 0);
    }
    if (open_error_ != 0) {
      return;
    }
    wake_fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (wake_fd_ < 0) {
      open_error_ = -errno;
      ::io_uring_queue_exit(&ring_);
      return;
    }
    files_ = std::move(files);
    registered_files_ = !files_->fds().empty() &&
                        ::io_uring_register_files(&ring_, files_->fds().data(),
                                                  static_cast<unsigned>(files_->fds().size())) == 0;
    RegisterBuffers(options.buffers);
  }
  UringReader(const UringReader&) = delete;
  UringReader& operator=(const UringReader&) = delete;
  ~UringReader() override {
    if (open_error_ != 0) {
      return;
    }
    // The kernel may still be writing into the caller's memory.
    {
      const std::lock_guard lock(mutex_);
      queue_.Clear();  // allocates nothing
    }
    while (in_flight_ > 0) {
      results_.clear();
      Enter(/*block=*/true);
      Reap();
    }
    ::io_uring_queue_exit(&ring_);
    ::close(wake_fd_);
  }

  int open_error() const { return open_error_; }

  void Submit(std::span<const ReadRequest> requests) override {
    bool wake = false;
    {
      const std::lock_guard lock(mutex_);
      queue_.Push(requests);
      wake = blocked_ && in_flight_ < reads_.size();
    }
    if (wake) {
      Wake();
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
  void Interrupt() override {
    {
      const std::lock_guard lock(mutex_);
      interrupted_ = true;
    }
    Wake();
  }

  std::span<const ReadResult> Wait() override {
    results_.clear();
    for (;;) {
      bool block = false;
      {
        const std::lock_guard lock(mutex_);
        StartQueued();
        block = results_.empty() && !interrupted_;
        blocked_ = block;
        if (!block) {
          interrupted_ = false;
        }
      }
      if (!block) {
        // What was queued goes to the kernel before the caller looks at the results.
        Enter(/*block=*/false);
        return results_;
      }
      ArmWake();
      Enter(/*block=*/true);
      Reap();
    }
  }

  const char* engine() const override { return "io_uring"; }
  bool direct() const override { return files_->direct(); }

 private:
  void RegisterBuffers(const std::vector<std::span<std::byte>>& buffers) {
    std::vector<iovec> pieces;
    for (const std::span<std::byte> buffer : buffers) {
      for (uint64_t at = 0; at < buffer.size(); at += kMaxRegisteredBytes) {
        const auto piece = buffer.subspan(at, std::min(kMaxRegisteredBytes, buffer.size() - at));
        pieces.push_back({piece.data(), piece.size()});
      }
    }
    if (pieces.empty()) {
      return;
    }
    const int error =
        ::io_uring_register_buffers(&ring_, pieces.data(), static_cast<unsigned>(pieces.size()));
    if (error != 0) {  // usually RLIMIT_MEMLOCK
      LogInfo("read buffers are not registered, which costs some speed; raise ulimit -l",
              {{"reason", std::strerror(-error)}});
      return;
    }
    registered_ = std::move(pieces);
  }

  // The registered buffer that holds all of it, or -1.
  int RegisteredIndex(const std::byte* address, uint64_t bytes) const {
    for (size_t i = 0; i < registered_.size(); ++i) {
      const auto* base = static_cast<const std::byte*>(registered_[i].iov_base);
      if (address >= base && address + bytes <= base + registered_[i].iov_len) {
        return static_cast<int>(i);
      }
    }
    return -1;
  }

  void Wake() const {
    const uint64_t one = 1;
    // A full counter means that a wake-up is pending already.
    [[maybe_unused]] const ssize_t written = ::write(wake_fd_, &one, sizeof(one));
  }

  // Gives the kernel what was prepared, and with `block` waits until something has ended. May
  // return before that.
  void Enter(bool block) {
    const int taken = ::io_uring_submit_and_wait(&ring_, block ? 1 : 0);
    if (taken >= 0 || taken == -EINTR) {
      refusals_ = 0;
      return;
    }
    if (!block) {
      return;  // the next Wait tries again
    }
    if (++refusals_ >= kMostRefusals) {
      GiveUpUntaken(-taken);
      if (!results_.empty()) {
        return;
      }
    }
    // What the kernel has taken before still ends, and Wake still wakes.
    pollfd wake = {wake_fd_, POLLIN, 0};
    ::poll(&wake, 1, kRefusalPauseMs);
    if ((wake.revents & POLLIN) != 0) {
      TakeWake();
    }
  }

  // Fails the reads that the kernel has not taken, and only those: into the memory of the others it
  // may still write.
  void GiveUpUntaken(int error) {
    const uint64_t taken = prepared_ - ::io_uring_sq_ready(&ring_);
    // Takes the entries back. Without a polling thread the kernel looks at them in a call only.
    const unsigned head = *ring_.sq.khead;
    ring_.sq.sqe_head = head;
    ring_.sq.sqe_tail = head;
    *ring_.sq.ktail = head;
    armed_ = armed_ && wake_entry_ <= taken;
    for (size_t index = 0; index < entries_.size(); ++index) {
      if (entries_[index] > taken) {
        End(index, {reads_[index].request.tag, 0, error});
      }
    }
    refusal_logged_ = refusal_logged_ || Quietly([error] {
                        LogError("io_uring takes no reads", {{"reason", std::strerror(error)}});
                      });
  }

  void End(size_t index, const ReadResult& result) {
    results_.push_back(result);
    free_.push_back(index);
    entries_[index] = 0;
    const std::lock_guard lock(mutex_);
    --in_flight_;
  }

  void TakeWake() const {
    uint64_t count = 0;
    [[maybe_unused]] const ssize_t got = ::read(wake_fd_, &count, sizeof(count));
  }

  void ArmWake() {
    if (!armed_) {
      io_uring_sqe* sqe = NextEntry();
      ::io_uring_prep_poll_add(sqe, wake_fd_, POLLIN);
      ::io_uring_sqe_set_data64(sqe, kWakeTag);
      armed_ = true;
      wake_entry_ = prepared_;
    }
  }

  io_uring_sqe* NextEntry() {
    io_uring_sqe* sqe = ::io_uring_get_sqe(&ring_);
    if (sqe == nullptr) {
      ::io_uring_submit(&ring_);
      sqe = ::io_uring_get_sqe(&ring_);
    }
    MACH_CHECK(sqe != nullptr);  // the ring has more entries than there can be reads in flight
    ++prepared_;
    return sqe;
  }

  // With mutex_ held.
  void StartQueued() {
    while (!free_.empty() && !queue_.empty()) {
      const size_t index = free_.back();
      free_.pop_back();
      reads_[index] = {queue_.Pop()};
      ++in_flight_;
      Prepare(index);
    }
  }

  void Prepare(size_t index) {
    const ReadProgress& read = reads_[index];
    const auto bytes = static_cast<unsigned>(std::min(read.left_bytes(), max_bytes_per_call_));
    const int file = read.request.file;
    const int fd = registered_files_ ? file : files_->fd(file);
    io_uring_sqe* sqe = NextEntry();
    const int buffer = RegisteredIndex(read.address(), bytes);
    if (buffer >= 0) {
      ::io_uring_prep_read_fixed(sqe, fd, read.address(), bytes, read.position(), buffer);
    } else {
      ::io_uring_prep_read(sqe, fd, read.address(), bytes, read.position());
    }
    if (registered_files_) {
      sqe->flags |= IOSQE_FIXED_FILE;
    }
    ::io_uring_sqe_set_data64(sqe, index);
    entries_[index] = prepared_;
  }

  void Reap() {
    io_uring_cqe* cqe = nullptr;
    while (::io_uring_peek_cqe(&ring_, &cqe) == 0) {
      const uint64_t tag = ::io_uring_cqe_get_data64(cqe);
      const int returned = cqe->res;
      ::io_uring_cqe_seen(&ring_, cqe);
      if (tag == kWakeTag) {
        armed_ = false;
        TakeWake();
        continue;
      }
      ReadProgress& read = reads_[tag];
      ReadResult result;
      if (!read.Advance(returned, files_->fd(read.request.file), result)) {
        Prepare(tag);
        continue;
      }
      End(tag, result);
    }
  }

  const uint64_t max_bytes_per_call_;
  std::unique_ptr<ReadFiles> files_;
  io_uring ring_ = {};
  int open_error_ = 0;
  int wake_fd_ = -1;
  bool registered_files_ = false;
  std::vector<iovec> registered_;

  // Of the waiting thread.
  uint64_t prepared_ = 0;    // entries of the ring, since its start
  uint64_t wake_entry_ = 0;  // which of them polls wake_fd_, if armed_
  bool armed_ = false;       // one polls wake_fd_
  int refusals_ = 0;         // by the kernel, since it last took what it was given
  bool refusal_logged_ = false;
  std::vector<ReadProgress> reads_;  // [queue_depth]
  std::vector<uint64_t> entries_;    // [queue_depth], the last one of each read; 0: not in flight
  std::vector<size_t> free_;         // unused ones
  std::vector<ReadResult> results_;

  std::mutex mutex_;  // of what follows
  ReadQueue queue_;
  size_t in_flight_ = 0;
  bool blocked_ = false;  // the waiting thread sleeps, or is about to
  bool interrupted_ = false;
};

}  // namespace

std::unique_ptr<DirectReader> MakeUringReader(const DirectReaderOptions& options,
                                              std::unique_ptr<ReadFiles>& files,
                                              std::string& refusal) {
  auto reader = std::make_unique<UringReader>(options, files);
  if (reader->open_error() != 0) {
    refusal = std::strerror(-reader->open_error());
    return nullptr;
  }
  return reader;
}

}  // namespace mach::internal

#else

namespace mach::internal {

std::unique_ptr<DirectReader> MakeUringReader(const DirectReaderOptions&,
                                              std::unique_ptr<ReadFiles>&, std::string& refusal) {
  refusal = "not a Linux system";
  return nullptr;
}

}  // namespace mach::internal

#endif
