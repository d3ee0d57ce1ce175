// Files as memory. Where the disk fails under a mapping, or the file shrinks, the system answers a
// read with SIGBUS, which ends a process without a word. Here the handler puts zeros in place of
// what cannot be read and notes that; whoever reads asks afterwards (RequireIntact), and the error
// names the file.
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <mutex>

#include <fcntl.h>
#include <sys/mman.h>
#ifdef __linux__
#include <sys/syscall.h>
#endif
#include <unistd.h>

#include "base/error.h"
#include "platform/file.h"
#include "platform/file_internal.h"

namespace mach {
namespace {

uintptr_t PageBytes() {
  static const auto kBytes = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  return kBytes;
}

// One mapping, as the signal handler sees it: no locks, nothing that is ever freed.
struct Mapping {
  static constexpr uint64_t kIntact = UINT64_MAX;

  std::atomic<uintptr_t> begin = 0;  // 0: this place is free
  std::atomic<uint64_t> size_bytes = 0;
  std::atomic<uint64_t> failed_at = kIntact;  // offset of the first page that could not be read
};

// More files than the largest checkpoints have.
std::array<Mapping, 2048> g_mappings;
std::mutex g_mappings_mutex;  // of who takes a place; the handler only reads
struct sigaction g_action_before;

bool MapZeros(uintptr_t page, uint64_t size_bytes) {
  constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
#ifdef __linux__
  // Past the C library: ThreadSanitizer takes its mmap for a write that races with readers.
  return ::syscall(SYS_mmap, page, size_bytes, PROT_READ, kFlags, -1, 0) != -1;
#else
  // NOLINTNEXTLINE(performance-no-int-to-ptr): an address as the signal came with it
  void* const at = reinterpret_cast<void*>(page);
  return ::mmap(at, size_bytes, PROT_READ, kFlags, -1, 0) != MAP_FAILED;
#endif
}

void OnBusError(int signal, siginfo_t* info, void* /*context*/) {
  const int saved_errno = errno;
  const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
  for (Mapping& mapping : g_mappings) {
    const uintptr_t begin = mapping.begin.load(std::memory_order_acquire);
    const uint64_t size = mapping.size_bytes.load(std::memory_order_relaxed);
    if (begin == 0 || address < begin || address - begin >= size) {
      continue;
    }
    // All the rest at once: what lies behind is of no more use.
    const uintptr_t page = address / PageBytes() * PageBytes();
    if (MapZeros(page, begin + size - page)) {
      uint64_t intact = Mapping::kIntact;
      mapping.failed_at.compare_exchange_strong(intact, page - begin);
      errno = saved_errno;
      return;
    }
  }
  // None of ours. The instruction is repeated, and meets whatever was there before; what another
  // process sent is sent again.
  (void)::sigaction(SIGBUS, &g_action_before, nullptr);
  if (info->si_code <= 0) {
    (void)::raise(signal);
  }
  errno = saved_errno;
}

void InstallHandler() {
  static std::once_flag once;
  std::call_once(once, [] {
    (void)PageBytes();  // asked here, where that is allowed
    struct sigaction action = {};
    action.sa_sigaction = OnBusError;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&action.sa_mask);  // a macro on some systems
    (void)::sigaction(SIGBUS, &action, &g_action_before);
  });
}

Mapping& Register(const void* address, uint64_t size_bytes, const std::string& path) {
  const std::lock_guard lock(g_mappings_mutex);
  for (Mapping& mapping : g_mappings) {
    if (mapping.begin.load(std::memory_order_relaxed) == 0) {
      mapping.size_bytes.store(size_bytes, std::memory_order_relaxed);
      mapping.failed_at.store(Mapping::kIntact, std::memory_order_relaxed);
      mapping.begin.store(reinterpret_cast<uintptr_t>(address), std::memory_order_release);
      return mapping;
    }
  }
  throw Error(ErrorCode::kResourceLimit, "cannot map " + path + ": " +
                                             std::to_string(g_mappings.size()) +
                                             " files are mapped already");
}

class MappedFile final : public RandomAccessFile {
 public:
  explicit MappedFile(const std::filesystem::path& path)
      : path_(path.string()), fd_(::open(path.c_str(), kReadFlags)) {
    if (fd_.get() < 0) {
      ThrowOpenError(path);
    }
    size_ = RegularFileSize(fd_.get(), path);
    if (size_ == 0) {
      return;
    }
    InstallHandler();
    void* address = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd_.get(), 0);
    if (address == MAP_FAILED) {
      throw Error(ErrorCode::kIo, "cannot map " + path_ + ": " + std::strerror(errno));
    }
    try {
      mapping_ = &Register(address, size_, path_);
    } catch (const Error&) {
      ::munmap(address, size_);
      throw;
    }
    data_ = static_cast<const std::byte*>(address);
  }
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile() override {
    if (data_ != nullptr) {
      mapping_->begin.store(0, std::memory_order_release);
      ::munmap(const_cast<std::byte*>(data_), size_);
    }
  }

  const std::string& path() const override { return path_; }
  uint64_t size_bytes() const override { return size_; }
  std::span<const std::byte> Mapped() const override { return {data_, size_}; }

  void RequireIntact() const override {
    const uint64_t failed_at = mapping_ == nullptr
                                   ? Mapping::kIntact
                                   : mapping_->failed_at.load(std::memory_order_relaxed);
    // A page that the file still reaches into is no bus error: its rest reads as zeros.
    const uint64_t size_now = RegularFileSize(fd_.get(), path_);
    if (failed_at == Mapping::kIntact && size_now >= size_) {
      return;
    }
    throw Error(ErrorCode::kIo,
                path_ + (size_now < size_
                             ? " was cut off while it was read: it had " + std::to_string(size_) +
                                   " bytes and has " + std::to_string(size_now)
                             : " cannot be read at offset " + std::to_string(failed_at)),
                size_now < size_ ? "fetch or convert it again" : "check the disk");
  }

  void Drop(std::span<const std::byte> bytes) const override {
    RequireIntact();
    if (bytes.empty()) {
      return;
    }
    // Whole pages, those shared with neighbours too: a mapping of a file reads them back.
    const auto within = reinterpret_cast<uintptr_t>(bytes.data()) % PageBytes();
    // Advice: that the system refuses it changes no result.
    (void)::madvise(const_cast<std::byte*>(bytes.data()) - within, bytes.size() + within,
                    MADV_DONTNEED);
  }

  void ReadAt(uint64_t offset_bytes, std::span<std::byte> out) const override {
    if (offset_bytes > size_ || out.size() > size_ - offset_bytes) {
      throw Error(ErrorCode::kCorruptFile,
                  path_ + ": need " + std::to_string(out.size()) + " bytes at offset " +
                      std::to_string(offset_bytes) + ", but the file has " + std::to_string(size_) +
                      " bytes",
                  "the file is truncated; fetch or convert it again");
    }
    if (!out.empty()) {
      std::memcpy(out.data(), data_ + offset_bytes, out.size());
    }
    RequireIntact();
  }

 private:
  std::string path_;
  FileDescriptor fd_;
  uint64_t size_ = 0;
  const std::byte* data_ = nullptr;
  Mapping* mapping_ = nullptr;  // null for an empty file
};

}  // namespace

std::unique_ptr<RandomAccessFile> OpenMappedFile(const std::filesystem::path& path) {
  return std::make_unique<MappedFile>(path);
}

}  // namespace mach
