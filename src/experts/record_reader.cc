#include "experts/record_reader.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <exception>
#include <utility>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"

namespace mach::experts {
namespace {

constexpr size_t kMostResults = 256;  // reported at once

}  // namespace

RecordReader::RecordReader(const formats::ExpertSidecar& sidecar, DirectReaderOptions options,
                           uint64_t places, const OpenReader& open, Done done)
    : sidecar_(sidecar),
      done_(std::move(done)),
      verified_(sidecar.moe_layers.size() * static_cast<size_t>(sidecar.experts), false),
      attempts_(places) {
  results_.reserve(kMostResults);
  options.files.clear();
  for (const formats::SidecarLayer& layer : sidecar.moe_layers) {
    options.files.push_back(sidecar.PathOf(layer));
  }
  try {
    reader_ = open(options);
  } catch (const Error& error) {
    throw Error(error.code(), error.what(), error.cure().empty() ? Cure() : error.cure());
  }
  if (!reader_->direct()) {
    LogWarning("experts are read through the page cache", {{"directory", sidecar_.dir.string()}});
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
  try {
    reader_->Submit(requests);
  } catch (...) {
    const std::lock_guard lock(mutex_);
    EndReads(static_cast<int64_t>(reads.size()));
    throw;
  }
}

void RecordReader::Promote(uint64_t place, ReadPriority priority) {
  {
    const std::lock_guard lock(mutex_);
    ReadPriority& present = attempts_[place].read.priority;
    present = std::min(present, priority);
  }
  reader_->Promote(place, priority);
}

bool RecordReader::Cancel(uint64_t place) {
  if (!reader_->Cancel(place)) {
    return false;
  }
  const std::lock_guard lock(mutex_);
  EndReads(1);
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

// Nothing here throws: what fails for want of memory fails that read.
void RecordReader::Loop() {
  while (!stop_) {
    for (const ReadResult& result : reader_->Wait()) {
      Attempt attempt;
      {
        const std::lock_guard lock(mutex_);
        attempt = attempts_[result.tag];
      }
      // A checksum costs about a tenth of the read. It is taken here, where other reads go on and
      // the inference thread computes.
      std::optional<Error> error = CheckAndLog(attempt, result);
      const bool goes_on = error && !attempt.retried && Retry(result.tag);
      {
        const std::lock_guard lock(mutex_);
        stats_.bytes_read += result.bytes;
        stats_.read_errors += error ? 1 : 0;
        if (goes_on) {
          continue;
        }
        EndReads(1);
      }
      results_.push_back({result.tag, std::move(error)});
      if (results_.size() == kMostResults) {
        Report();
      }
    }
    Report();
  }
}

void RecordReader::Report() {
  if (!results_.empty()) {
    done_(results_);
    results_.clear();
  }
}

// Submits with the lock held, so that a promotion comes before, and is in the request, or after,
// and finds the read. False if it could not.
bool RecordReader::Retry(uint64_t place) {
  const std::lock_guard lock(mutex_);
  attempts_[place].retried = true;
  const ReadRequest request = RequestOf(attempts_[place].read);
  try {
    reader_->Submit({&request, 1});
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

void RecordReader::EndReads(int64_t count) {
  under_way_ -= count;
  if (under_way_ == 0) {
    stats_.read_seconds += NowSeconds() - busy_since_s_;
  }
}

// Logs before any lock is taken: where nobody reads stderr, this thread waits alone.
std::optional<Error> RecordReader::CheckAndLog(const Attempt& attempt, const ReadResult& result) {
  try {
    std::optional<Error> error = Check(attempt.read, result);
    if (error) {
      LogWarning("expert read failed", {{"error", error->what()}, {"retry", !attempt.retried}});
    }
    return error;
  } catch (const std::exception&) {
    return no_memory_;
  }
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
    const std::lock_guard lock(mutex_);
    ++stats_.records_checked;
  }
  return std::nullopt;
}

}  // namespace mach::experts
