// What the sources behind file.h share. For them alone.
#pragma once

#include <cstdint>
#include <filesystem>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

namespace mach {

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  FileDescriptor& operator=(FileDescriptor&&) = delete;
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
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
inline constexpr int kReadFlags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;

// By errno: kNotFound or kIo.
[[noreturn]] void ThrowOpenError(const std::filesystem::path& path);

// Regular files only: a directory or a FIFO gets a clear error instead of a strange one later.
uint64_t RegularFileSize(int fd, const std::filesystem::path& path);

}  // namespace mach
