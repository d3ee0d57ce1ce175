// A file being written at chosen positions. Large aligned pieces go past the page cache where the
// file system allows it, which spares a copy and the memory of others. Not atomic by itself: the
// converter writes into a directory that gets its final name when everything in it is complete. One
// thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

namespace mach::convert {

class OutputFile {
 public:
  // Creates or empties `path`. Throws kIo.
  explicit OutputFile(std::filesystem::path path);
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;
  ~OutputFile();

  void WriteAt(uint64_t offset_bytes, std::span<const std::byte> bytes);  // throws kIo
  void Sync();                                                            // throws kIo

 private:
  std::filesystem::path path_;
  int fd_ = -1;
  int direct_fd_ = -1;  // the same file without the page cache; -1 where that is refused
};

// Holds an exclusive lock on a directory, so that two conversions do not write into it at once.
// Throws kUnavailable if another process has it or just gave it another name, kIo if the file
// system refuses locks.
class DirectoryLock {
 public:
  explicit DirectoryLock(const std::filesystem::path& dir);
  DirectoryLock(const DirectoryLock&) = delete;
  DirectoryLock& operator=(const DirectoryLock&) = delete;
  ~DirectoryLock();

 private:
  int fd_ = -1;
};

}  // namespace mach::convert
