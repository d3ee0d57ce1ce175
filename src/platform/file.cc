#include "platform/file.h"

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string_view>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "platform/file_internal.h"

namespace mach {
namespace {

// Of offsets, sizes and memory of direct reads, on any usual disk.
constexpr uint64_t kDirectAlignment = 4096;

// Between the name of a file and the hexadecimal digits of one that will replace it.
constexpr const char* kTemporaryMark = ".tmp-";
constexpr std::string_view kTemporaryDigits = "0123456789abcdef";

std::string ErrnoText() {
  return std::strerror(errno);
}

// A new file beside the one it will replace. Its lock tells RemoveStaleTemporaries that the writer
// lives.
struct Temporary {
  std::filesystem::path path;
  FileDescriptor fd;
};

// The name is random: process ids repeat in containers that share a volume.
std::filesystem::path TemporaryName(const std::filesystem::path& path) {
  uint64_t random = 0;
  if (::getentropy(&random, sizeof(random)) != 0) {
    throw Error(ErrorCode::kIo, "cannot get random bytes: " + ErrnoText());
  }
  std::string name = path.string() + kTemporaryMark;
  for (int digit = 0; digit < 16; ++digit, random /= 16) {
    name += kTemporaryDigits[random % 16];
  }
  return name;
}

Temporary CreateTemporary(const std::filesystem::path& path) {
  // Whoever looks for what killed writers left may find the file before it is locked, and remove
  // it: then another is made.
  constexpr int kAttempts = 100;
  for (int attempt = 1;; ++attempt) {
    const std::filesystem::path name = TemporaryName(path);
    FileDescriptor fd(::open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
    if (fd.get() < 0) {
      throw Error(ErrorCode::kIo, "cannot create " + name.string() + ": " + ErrnoText());
    }
    const bool locked = ::flock(fd.get(), LOCK_EX | LOCK_NB) == 0;
    const int reason = locked ? 0 : errno;
    struct stat status = {};
    if (locked && ::fstat(fd.get(), &status) == 0 && status.st_nlink > 0) {
      return {name, std::move(fd)};
    }
    ::unlink(name.c_str());
    if ((!locked && reason != EWOULDBLOCK) || attempt == kAttempts) {
      throw Error(ErrorCode::kIo, "cannot lock " + name.string() + ": " + std::strerror(reason),
                  "use a file system that has locks (flock)");
    }
  }
}

}  // namespace

void ThrowOpenError(const std::filesystem::path& path) {
  const bool missing = errno == ENOENT || errno == ENOTDIR;
  throw Error(missing ? ErrorCode::kNotFound : ErrorCode::kIo,
              "cannot open " + path.string() + ": " + ErrnoText());
}

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
  const auto [temporary, fd] = CreateTemporary(path);
  const auto fail = [&name = temporary](const std::string& what) {
    const std::string reason = ErrnoText();
    ::unlink(name.c_str());
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
        name.find_first_not_of(kTemporaryDigits, prefix.size()) == std::string::npos;
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
