// Reads whole expert records into given memory: checked against the manifest's checksum the first
// time in a process, retried once, done in the background.
//
// Owns the direct reader and one thread, which checks and reports; both end with it. Read, Promote
// and Cancel may be called from any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "formats/expert_sidecar.h"
#include "platform/direct_reader.h"

namespace mach::experts {

struct RecordRead {
  uint64_t place = 0;     // the caller's name for `out`; one read at a time goes to a place
  int32_t moe_layer = 0;  // index into ExpertSidecar::moe_layers
  int32_t expert = 0;
  std::byte* out = nullptr;  // record_bytes, aligned to DirectReader::kAlignment
  ReadPriority priority = ReadPriority::kDemand;
};

struct RecordResult {
  uint64_t place = 0;
  std::optional<Error> error;  // kIo or kCorruptFile, naming file, expert and offset
};

struct RecordReaderStats {
  uint64_t bytes_read = 0;
  double read_seconds = 0;      // with at least one read in flight
  int64_t read_errors = 0;      // failed reads and checksums, retried or not
  int64_t records_checked = 0;  // different ones that matched their checksum
};

class RecordReader {
 public:
  // Called on the reader's thread, with no lock held; must not throw.
  using Done = std::function<void(std::span<RecordResult>)>;

  // `options` says how to read; its files are those of the sidecar. `places` bounds the numbers of
  // places. Throws what `open` throws. Logs where reads go through the page cache.
  RecordReader(const formats::ExpertSidecar& sidecar, DirectReaderOptions options, uint64_t places,
               const OpenReader& open, Done done);
  RecordReader(const RecordReader&) = delete;
  RecordReader& operator=(const RecordReader&) = delete;
  // No callback runs after this returns, and no read writes to memory any more.
  ~RecordReader();

  // All of them or, if it throws (memory), none.
  void Read(std::span<const RecordRead> reads);
  void Promote(uint64_t place, ReadPriority priority);  // its retry too
  // True if it had not begun: `done` will not hear of it.
  bool Cancel(uint64_t place);

  RecordReaderStats Stats() const;
  const char* engine() const { return reader_->engine(); }
  bool direct() const { return reader_->direct(); }

 private:
  struct Attempt {
    RecordRead read;
    bool retried = false;
  };

  void Loop();
  void Report();
  bool Retry(uint64_t place);
  void EndReads(int64_t count);  // with mutex_ held
  std::optional<Error> CheckAndLog(const Attempt& attempt, const ReadResult& result);
  std::optional<Error> Check(const RecordRead& read, const ReadResult& result);
  ReadRequest RequestOf(const RecordRead& read) const;
  std::string Cure() const;  // of a record that cannot be had

  const formats::ExpertSidecar& sidecar_;
  const Done done_;
  std::unique_ptr<DirectReader> reader_;
  const Error no_memory_{ErrorCode::kIo, "an expert record cannot be checked: no memory"};

  // Of the reader's thread.
  std::vector<bool> verified_;         // [MoE layers x experts]
  std::vector<RecordResult> results_;  // to be reported; never grows

  mutable std::mutex mutex_;       // of what follows
  std::vector<Attempt> attempts_;  // [places]
  int64_t under_way_ = 0;
  double busy_since_s_ = 0;  // while under_way_ > 0
  RecordReaderStats stats_;
  std::atomic<bool> stop_ = false;

  std::thread thread_;
};

}  // namespace mach::experts
