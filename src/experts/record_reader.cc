#include "experts/record_reader.h"

#include <cstring>
#include <utility>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"

namespace mach::experts {

RecordReader::RecordReader(const formats::ExpertSidecar& sidecar, DirectReaderOptions options,
                           uint64_t places, const ReaderWrapper& wrap, Done done)
    : sidecar_(sidecar),
      done_(std::move(done)),
      verified_(sidecar.moe_layers.size() * static_cast<size_t>(sidecar.experts), false),
      attempts_(places) {
  options.files.clear();
  for (const formats::SidecarLayer& layer : sidecar.moe_layers) {
    options.files.push_back(sidecar.PathOf(layer));
  }
  try {
    reader_ = OpenDirectReader(options);
  } catch (const Error& error) {
    throw Error(error.code(), error.what(), error.cure().empty() ? Cure() : error.cure());
  }
  if (wrap) {
    reader_ = wrap(std::move(reader_));
  }
  thread_ = std::thread([this] { Loop(); });
}

RecordReader::~RecordReader() {
  stop_ = true;
  reader_->Interrupt();
  thread_.join();
}

void RecordReader::Read(std::span<const RecordRead> reads) {
  if (reads.empty()) {
    return;
  }
  std::vector<ReadRequest> requests;
  requests.reserve(reads.size());
  {
    const std::lock_guard lock(mutex_);
    for (const RecordRead& read : reads) {
      attempts_[read.place] = {read, false};
      requests.push_back(RequestOf(read));
    }
    if (under_way_ == 0) {
      busy_since_s_ = NowSeconds();
    }
    under_way_ += static_cast<int64_t>(reads.size());
  }
  reader_->Submit(requests);
}

void RecordReader::Promote(uint64_t place) {
  {
    const std::lock_guard lock(mutex_);
    attempts_[place].read.priority = ReadPriority::kDemand;
  }
  reader_->Promote(place);
}

bool RecordReader::Cancel(uint64_t place) {
  if (!reader_->Cancel(place)) {
    return false;
  }
  const std::lock_guard lock(mutex_);
  if (--under_way_ == 0) {
    stats_.read_seconds += NowSeconds() - busy_since_s_;
  }
  return true;
}

RecordReaderStats RecordReader::Stats() const {
  const std::lock_guard lock(mutex_);
  RecordReaderStats stats = stats_;
  if (under_way_ > 0) {
    stats.read_seconds += NowSeconds() - busy_since_s_;
  }
  return stats;
}

ReadRequest RecordReader::RequestOf(const RecordRead& read) const {
  return {read.place,
          read.moe_layer,
          sidecar_.OffsetOf(read.expert),
          {read.out, sidecar_.layout.record_bytes},
          read.priority};
}

std::string RecordReader::Cure() const {
  const std::string disk = "check the disk and its log";
  return sidecar_.cure.empty() ? disk : disk + ", or " + sidecar_.cure;
}

void RecordReader::Loop() {
  std::vector<RecordResult> results;
  std::vector<uint64_t> retries;  // places
  while (!stop_) {
    for (const ReadResult& result : reader_->Wait()) {
      Attempt attempt;
      {
        const std::lock_guard lock(mutex_);
        attempt = attempts_[result.tag];
      }
      // A checksum costs about a tenth of the read. It is taken here, where other reads go on and
      // the inference thread computes.
      std::optional<Error> error = Check(attempt.read, result);
      const std::lock_guard lock(mutex_);
      stats_.bytes_read += result.bytes;
      if (error) {
        ++stats_.read_errors;
        LogWarning("expert read failed", {{"error", error->what()}, {"retry", !attempt.retried}});
        if (!attempt.retried) {
          attempts_[result.tag].retried = true;
          retries.push_back(result.tag);
          continue;
        }
      }
      if (--under_way_ == 0) {
        stats_.read_seconds += NowSeconds() - busy_since_s_;
      }
      results.push_back({result.tag, std::move(error)});
    }
    if (!retries.empty()) {
      Retry(retries);
      retries.clear();
    }
    if (!results.empty()) {
      done_(results);
      results.clear();
    }
  }
}

// Submits with the lock held, so that a promotion comes before, and is in the request, or after,
// and finds the read.
void RecordReader::Retry(std::span<const uint64_t> places) {
  std::vector<ReadRequest> requests;
  const std::lock_guard lock(mutex_);
  for (const uint64_t place : places) {
    requests.push_back(RequestOf(attempts_[place].read));
  }
  reader_->Submit(requests);
}

std::optional<Error> RecordReader::Check(const RecordRead& read, const ReadResult& result) {
  const formats::SidecarLayer& layer = sidecar_.moe_layers[static_cast<size_t>(read.moe_layer)];
  const uint64_t record_bytes = sidecar_.layout.record_bytes;
  const auto where = [&] {
    return sidecar_.PathOf(layer).string() + ": expert " + std::to_string(read.expert) +
           " at offset " + std::to_string(sidecar_.OffsetOf(read.expert));
  };
  if (result.error != 0) {
    return Error(ErrorCode::kIo, where() + ": " + std::strerror(result.error), Cure());
  }
  if (result.bytes != record_bytes) {
    return Error(ErrorCode::kCorruptFile,
                 where() + ": " + std::to_string(result.bytes) + " bytes where a record has " +
                     std::to_string(record_bytes),
                 Cure());
  }
  const size_t key = static_cast<size_t>(read.moe_layer) * static_cast<size_t>(sidecar_.experts) +
                     static_cast<size_t>(read.expert);
  if (!verified_[key]) {
    const std::string& expected = layer.xxh3_128[static_cast<size_t>(read.expert)];
    const std::string found = HashHex128({read.out, record_bytes});
    if (found != expected) {
      return Error(ErrorCode::kCorruptFile,
                   where() + ": checksum " + found + ", but the manifest says " + expected, Cure());
    }
    verified_[key] = true;
  }
  return std::nullopt;
}

}  // namespace mach::experts
