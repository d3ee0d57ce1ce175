// Files as the rest of the engine sees them: positioned reads behind an interface that tests can
// replace (short reads, bit flips, I/O errors), whole-file helpers, and atomic replacement.
// All errors are mach::Error with the path in the message.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace mach {

// A file open for positioned reads. Implementations are safe to call from several threads.
class RandomAccessFile {
 public:
  virtual ~RandomAccessFile() = default;

  virtual const std::string& path() const = 0;
  virtual uint64_t size_bytes() const = 0;

  // Fills all of `out` from `offset_bytes`. Throws kCorruptFile if the file ends before, kIo if the
  // operating system reports an error. Blocks.
  virtual void ReadAt(uint64_t offset_bytes, std::span<std::byte> out) const = 0;

  // The whole file as memory, if this implementation maps it; empty otherwise. Valid as long as the
  // file object lives.
  virtual std::span<const std::byte> Mapped() const { return {}; }

  // Where the mapping cannot be read, because the file shrank or its disk failed, there are zeros
  // instead. Throws kIo naming the file if it shrank or anyone has met such a place: so whoever
  // reads the mapping asks before using what came of it. Any thread.
  virtual void RequireIntact() const {}

  // The caller has read these bytes of the mapping: as RequireIntact, and their pages no longer
  // count as this process's memory. Reading them again is slower, never wrong. Any thread.
  virtual void Drop(std::span<const std::byte> bytes) const { (void)bytes; }
};

// Opens and maps `path` read-only. Throws kNotFound or kIo. What is read while serving is not
// mapped: platform/direct_reader.h.
std::unique_ptr<RandomAccessFile> OpenMappedFile(const std::filesystem::path& path);

// Whole small files (config.json and its kind). Throws kResourceLimit if the file is larger than
// `limit_bytes`: a bound against being pointed at the wrong file.
std::string ReadWholeFile(const std::filesystem::path& path, uint64_t limit_bytes = 1ULL << 30);

// Calls `visit` with all bytes of a file in order, in pieces of a few MiB. Reads past the page
// cache where the file system allows it: checking a large file then neither displaces what memory
// holds nor vouches for a copy in memory instead of the disk. Throws kNotFound, kIo, or
// kCorruptFile if the file shrinks meanwhile. Blocks.
void ScanFile(const std::filesystem::path& path,
              const std::function<void(std::span<const std::byte>)>& visit);

// What the operating system said, without the library's wording: "PATH: Permission denied". For
// calls of std::filesystem that throw.
std::string FileSystemReason(const std::filesystem::filesystem_error& error);

// Writes to a temporary name beside `path`, syncs, renames: readers see the old file or the whole
// new one, and of several writers at once, in other containers too, one is the last. Throws kIo,
// also where the file system refuses the lock by which a living writer is known.
void WriteFileAtomically(const std::filesystem::path& path, std::string_view contents);

// Removes what writers of `path` that were killed left beside it; what a living one is writing
// stays, and so does what cannot be removed.
void RemoveStaleTemporaries(const std::filesystem::path& path);

// fsync of a directory, so that renames inside it survive a power cut.
void SyncDirectory(const std::filesystem::path& path);

}  // namespace mach
