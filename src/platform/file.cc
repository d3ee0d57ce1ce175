#include "platform/file.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"

namespace mach {
namespace {

// Of offsets, sizes and memory of direct reads, on any usual disk.
constexpr uint64_t kDirectAlignment = 4096;

// Between the name of a file and the process id of the one who is writing it anew.
constexpr const char* kTemporaryMark = ".tmp-";

std::string ErrnoText() {
  return std::strerror(errno);
}

[[noreturn]] void ThrowOpenError(const std::filesystem::path& path) {
  const bool missing = errno == ENOENT || errno == ENOTDIR;
  throw Error(missing ? ErrorCode::kNotFound : ErrorCode::kIo,
              "cannot open " + path.string() + ": " + ErrnoText());
}

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  ~FileDescriptor() {
    if (fd_ >= 0) {
      ::close(fd_);
    }
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

// O_NONBLOCK, which regular files ignore: opening a FIFO would wait for a writer.
constexpr int kReadFlags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;

// Regular files only: a directory or a FIFO gets a clear error instead of a strange one later.
uint64_t RegularFileSize(int fd, const std::filesystem::path& path) {
  struct stat status = {};
  if (::fstat(fd, &status) != 0) {
    throw Error(ErrorCode::kIo, "cannot stat " + path.string() + ": " + ErrnoText());
  }
  if (!S_ISREG(status.st_mode)) {
    throw Error(ErrorCode::kInvalidArgument, path.string() + " is not a regular file");
  }
  return static_cast<uint64_t>(status.st_size);
}

void ThrowPastEnd(const std::string& path, uint64_t offset, uint64_t wanted, uint64_t size) {
  throw Error(ErrorCode::kCorruptFile,
              path + ": need " + std::to_string(wanted) + " bytes at offset " +
                  std::to_string(offset) + ", but the file has " + std::to_string(size) + " bytes",
              "the file is truncated; fetch or convert it again");
}

class MappedFile final : public RandomAccessFile {
 public:
  explicit MappedFile(const std::filesystem::path& path) : path_(path.string()) {
    const FileDescriptor fd(::open(path.c_str(), kReadFlags));
    if (fd.get() < 0) {
      ThrowOpenError(path);
    }
    size_ = RegularFileSize(fd.get(), path);
    if (size_ == 0) {
      return;
    }
    void* address = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd.get(), 0);
    if (address == MAP_FAILED) {
      throw Error(ErrorCode::kIo, "cannot map " + path_ + ": " + ErrnoText());
    }
    data_ = static_cast<const std::byte*>(address);
  }
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile() override {
    if (data_ != nullptr) {
      ::munmap(const_cast<std::byte*>(data_), size_);
    }
  }

  const std::string& path() const override { return path_; }
  uint64_t size_bytes() const override { return size_; }
  std::span<const std::byte> Mapped() const override { return {data_, size_}; }

  void Drop(std::span<const std::byte> bytes) const override {
    if (bytes.empty()) {
      return;
    }
    // Whole pages, those shared with neighbours too: a mapping of a file reads them back.
    static const auto kPageBytes = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
    const auto within = reinterpret_cast<uintptr_t>(bytes.data()) % kPageBytes;
    // Advice: that the system refuses it changes no result.
    (void)::madvise(const_cast<std::byte*>(bytes.data()) - within, bytes.size() + within,
                    MADV_DONTNEED);
  }

  void ReadAt(uint64_t offset_bytes, std::span<std::byte> out) const override {
    if (offset_bytes > size_ || out.size() > size_ - offset_bytes) {
      ThrowPastEnd(path_, offset_bytes, out.size(), size_);
    }
    if (!out.empty()) {
      std::memcpy(out.data(), data_ + offset_bytes, out.size());
    }
  }

 private:
  std::string path_;
  uint64_t size_ = 0;
  const std::byte* data_ = nullptr;
};

}  // namespace

std::unique_ptr<RandomAccessFile> OpenMappedFile(const std::filesystem::path& path) {
  return std::make_unique<MappedFile>(path);
}

std::string ReadWholeFile(const std::filesystem::path& path, uint64_t limit_bytes) {
  const FileDescriptor fd(::open(path.c_str(), kReadFlags));
  if (fd.get() < 0) {
    ThrowOpenError(path);
  }
  const uint64_t size = RegularFileSize(fd.get(), path);
  if (size > limit_bytes) {
    throw Error(ErrorCode::kResourceLimit, path.string() + " has " + std::to_string(size) +
                                               " bytes; expected at most " +
                                               std::to_string(limit_bytes));
  }
  std::string contents(size, '\0');
  size_t done = 0;
  while (done < contents.size()) {
    const ssize_t count = ::read(fd.get(), contents.data() + done, contents.size() - done);
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0) {
      throw Error(ErrorCode::kIo, "cannot read " + path.string() + ": " + ErrnoText());
    }
    if (count == 0) {
      contents.resize(done);  // the file shrank while it was read
      break;
    }
    done += static_cast<size_t>(count);
  }
  return contents;
}

void ScanFile(const std::filesystem::path& path,
              const std::function<void(std::span<const std::byte>)>& visit) {
  constexpr uint64_t kPieceBytes = 4ULL << 20;
  const FileDescriptor buffered(::open(path.c_str(), kReadFlags));
  struct stat status = {};
  if (buffered.get() < 0 || ::fstat(buffered.get(), &status) != 0) {
    ThrowOpenError(path);
  }
#ifdef O_DIRECT
  const FileDescriptor direct(::open(path.c_str(), kReadFlags | O_DIRECT));
#else
  const FileDescriptor direct(-1);
#endif
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  const std::unique_ptr<std::byte, Free> piece(
      static_cast<std::byte*>(std::aligned_alloc(kDirectAlignment, kPieceBytes)));
  if (piece == nullptr) {
    throw std::bad_alloc();
  }
  const auto size = static_cast<uint64_t>(status.st_size);
  bool use_direct = direct.get() >= 0;
  for (uint64_t done = 0; done < size;) {
    const ssize_t count = ::pread(use_direct ? direct.get() : buffered.get(), piece.get(),
                                  kPieceBytes, static_cast<off_t>(done));
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0 && use_direct && errno == EINVAL) {
      use_direct = false;
      continue;
    }
    if (count < 0) {
      throw Error(ErrorCode::kIo, "cannot read " + path.string() + " at offset " +
                                      std::to_string(done) + ": " + ErrnoText());
    }
    if (count == 0) {
      throw Error(ErrorCode::kCorruptFile, path.string() + " ends after " + std::to_string(done) +
                                               " of " + std::to_string(size) + " bytes");
    }
    visit(std::span(piece.get(), static_cast<size_t>(count)));
    done += static_cast<uint64_t>(count);
  }
}

std::string FileSystemReason(const std::filesystem::filesystem_error& error) {
  const std::string path = error.path1().string();
  return (path.empty() ? "" : path + ": ") + error.code().message();
}

void WriteFileAtomically(const std::filesystem::path& path, std::string_view contents) {
  std::filesystem::path temporary = path;
  temporary += kTemporaryMark + std::to_string(::getpid());
  const FileDescriptor fd(
      ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (fd.get() < 0) {
    throw Error(ErrorCode::kIo, "cannot create " + temporary.string() + ": " + ErrnoText());
  }
  // Tells RemoveStaleTemporaries that the writer lives. Where locks are refused, that removes
  // nothing.
  (void)::flock(fd.get(), LOCK_EX | LOCK_NB);
  const auto fail = [&temporary](const std::string& what) {
    const std::string reason = ErrnoText();
    ::unlink(temporary.c_str());
    throw Error(ErrorCode::kIo, "cannot " + what + ": " + reason);
  };
  size_t done = 0;
  while (done < contents.size()) {
    const ssize_t count = ::write(fd.get(), contents.data() + done, contents.size() - done);
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0) {
      fail("write " + temporary.string());
    }
    done += static_cast<size_t>(count);
  }
  if (::fsync(fd.get()) != 0) {
    fail("sync " + temporary.string());
  }
  if (::rename(temporary.c_str(), path.c_str()) != 0) {
    fail("rename " + temporary.string() + " to " + path.string());
  }
  SyncDirectory(path.has_parent_path() ? path.parent_path() : std::filesystem::path("."));
}

void RemoveStaleTemporaries(const std::filesystem::path& path) {
  const std::string prefix = path.filename().string() + kTemporaryMark;
  std::error_code ignored;
  std::filesystem::directory_iterator entries(
      path.has_parent_path() ? path.parent_path() : std::filesystem::path("."), ignored);
  for (; entries != std::filesystem::directory_iterator(); entries.increment(ignored)) {
    const std::string name = entries->path().filename().string();
    const bool is_temporary =
        name.size() > prefix.size() && name.starts_with(prefix) &&
        name.find_first_not_of("0123456789", prefix.size()) == std::string::npos;
    if (!is_temporary) {
      continue;
    }
    // A lock says more than the process id in the name, which may be of another container.
    const FileDescriptor fd(
        ::open(entries->path().c_str(), O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (fd.get() >= 0 && ::flock(fd.get(), LOCK_EX | LOCK_NB) == 0) {
      ::unlink(entries->path().c_str());
    }
  }
}

void SyncDirectory(const std::filesystem::path& path) {
  const FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd.get() < 0 || ::fsync(fd.get()) != 0) {
    throw Error(ErrorCode::kIo, "cannot sync directory " + path.string() + ": " + ErrnoText());
  }
}

}  // namespace mach
