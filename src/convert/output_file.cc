#include "convert/output_file.h"

#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"

namespace mach::convert {
namespace {

[[noreturn]] void Fail(const char* verb, const std::filesystem::path& path) {
  const int reason = errno;
  const bool refused = reason == EACCES || reason == EPERM || reason == EROFS;
  throw Error(ErrorCode::kIo,
              std::string("cannot ") + verb + " " + path.string() + ": " + std::strerror(reason),
              reason == ENOSPC ? "free some disk space; the conversion continues where it stopped"
              : refused        ? "choose another --out"
                               : "");
}

// Of offsets, sizes and memory of direct writes, on any usual disk.
constexpr uint64_t kDirectAlignment = 4096;
// Below, the page cache gathers small pieces into larger writes.
constexpr size_t kDirectBytes = 1 << 20;

bool IsDirect(uint64_t offset_bytes, std::span<const std::byte> bytes) {
  return bytes.size() >= kDirectBytes &&
         (offset_bytes | bytes.size() | reinterpret_cast<uintptr_t>(bytes.data())) %
                 kDirectAlignment ==
             0;
}

}  // namespace

OutputFile::OutputFile(std::filesystem::path path)
    : path_(std::move(path)),
      fd_(::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)) {
  if (fd_ < 0) {
    Fail("create", path_);
  }
#ifdef O_DIRECT
  direct_fd_ = ::open(path_.c_str(), O_WRONLY | O_CLOEXEC | O_DIRECT);
#endif
}

OutputFile::~OutputFile() {
  if (direct_fd_ >= 0) {
    ::close(direct_fd_);
  }
  ::close(fd_);
}

void OutputFile::WriteAt(uint64_t offset_bytes, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const bool direct = direct_fd_ >= 0 && IsDirect(offset_bytes, bytes);
    const ssize_t count = ::pwrite(direct ? direct_fd_ : fd_, bytes.data(), bytes.size(),
                                   static_cast<off_t>(offset_bytes));
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0 && direct && errno == EINVAL) {
      ::close(direct_fd_);
      direct_fd_ = -1;
      continue;
    }
    if (count < 0) {
      Fail("write", path_);
    }
    bytes = bytes.subspan(static_cast<size_t>(count));
    offset_bytes += static_cast<uint64_t>(count);
  }
}

void OutputFile::Sync() {
  if (::fsync(fd_) != 0) {
    Fail("sync", path_);
  }
}

DirectoryLock::DirectoryLock(const std::filesystem::path& dir)
    : fd_(::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
  if (fd_ < 0) {
    Fail("open", dir);
  }
  if (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
    const bool busy = errno == EWOULDBLOCK;
    ::close(fd_);
    throw Error(
        busy ? ErrorCode::kUnavailable : ErrorCode::kIo,
        dir.string() + (busy ? " is being written by another conversion" : " cannot be locked"),
        busy ? "" : "write to a file system that has locks (flock)");
  }
  // Between opening and locking, whoever had it may have given it its final name.
  struct stat opened = {};
  struct stat named = {};
  if (::fstat(fd_, &opened) != 0 || ::stat(dir.c_str(), &named) != 0 ||
      opened.st_dev != named.st_dev || opened.st_ino != named.st_ino) {
    ::close(fd_);
    throw Error(ErrorCode::kUnavailable, dir.string() + " was finished by another conversion");
  }
}

DirectoryLock::~DirectoryLock() {
  ::close(fd_);
}

}  // namespace mach::convert
