// Asynchronous positioned reads of several files into the caller's memory, past the page cache.
//
// Two engines behind one interface: io_uring (registered files and buffers where the system lets
// it), and a pool of threads in pread. Reads beyond the queue depth wait in order of priority,
// equal ones in order of arrival. Here: bytes and errno. What the bytes mean, checksums and
// retries: the caller's (experts/record_reader.h).
//
// Submit, Promote, Cancel and Interrupt may be called from any thread, Wait from one; queued reads
// may begin only while that one is in Wait.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace mach {

// In the order in which queued reads begin.
enum class ReadPriority : uint8_t {
  kUrgent,    // somebody waits, for this one read: a token of an answer
  kDemand,    // somebody waits, for many reads: a chunk of a prompt, a model that is loaded
  kPrefetch,  // a guess
};
inline constexpr size_t kReadPriorities = 3;

struct ReadRequest {
  uint64_t tag = 0;  // chosen by the caller, unique among the reads that have no result yet
  int32_t file = 0;  // index into DirectReaderOptions::files
  uint64_t offset_bytes = 0;  // a multiple of kAlignment; so are address and size of `out`
  std::span<std::byte> out;   // stays valid until the result
  ReadPriority priority = ReadPriority::kDemand;
};

struct ReadResult {
  uint64_t tag = 0;
  uint64_t bytes = 0;  // with error 0: all that was asked for, or less where the file ends before
  int error = 0;       // errno
};

class DirectReader {
 public:
  static constexpr uint64_t kAlignment = 4096;

  // Lets the reads in flight end and drops the queued ones; no result is given.
  virtual ~DirectReader() = default;

  // All of them or, if it throws (memory), none.
  virtual void Submit(std::span<const ReadRequest> requests) = 0;
  // A queued read comes to wait among those of `priority`, the last of them. Does nothing if it has
  // begun or ended, if it is as urgent already, or if it throws.
  virtual void Promote(uint64_t tag, ReadPriority priority) = 0;
  // True if the read had not begun: it never will, gets no result, and its memory is free.
  virtual bool Cancel(uint64_t tag) = 0;

  // Blocks until at least one read has ended or Interrupt was called, and returns all that have
  // ended. Valid until the next call. Never throws.
  virtual std::span<const ReadResult> Wait() = 0;
  // Makes a Wait that blocks now, or the next one, return.
  virtual void Interrupt() = 0;

  virtual const char* engine() const = 0;  // "io_uring" or "pread"
  virtual bool direct() const = 0;         // no file fell back to the page cache
};

// How to read: what the user may choose.
struct ReadOptions {
  std::string engine = "auto";  // "io_uring", "pread"; auto: pread where io_uring is refused
  int32_t queue_depth = 16;     // reads in flight at most
  // Read through the page cache where a file system refuses direct reads; else that is an error.
  bool allow_buffered = false;
};

struct DirectReaderOptions {
  std::vector<std::filesystem::path> files;
  // Memory that most reads go to, registered once with the kernel where it allows that. Must
  // outlive the reader. Reads may go elsewhere too.
  std::vector<std::span<std::byte>> buffers;
  ReadOptions how;
  // A longer read is done in several calls.
  uint64_t max_bytes_per_call = 1ULL << 30;
};

// Throws kNotFound or kIo naming the file; kUnsupported if direct reads or the engine asked for are
// refused; kInvalidArgument for an engine or depth that makes no sense.
std::unique_ptr<DirectReader> OpenDirectReader(const DirectReaderOptions& options);

// How whoever reads through a DirectReader opens it: OpenDirectReader, or what stands for it.
using OpenReader = std::function<std::unique_ptr<DirectReader>(const DirectReaderOptions&)>;

}  // namespace mach
