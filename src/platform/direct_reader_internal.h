// What the two engines of direct_reader.h share. Private to platform/.
#pragma once

#include <algorithm>
#include <cstddef>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "platform/direct_reader.h"

namespace mach::internal {

// The files of a reader, open for reading.
class ReadFiles {
 public:
  ReadFiles(const std::vector<std::filesystem::path>& paths, bool allow_buffered);
  ReadFiles(const ReadFiles&) = delete;
  ReadFiles& operator=(const ReadFiles&) = delete;
  ~ReadFiles();

  int fd(int32_t file) const { return fds_[static_cast<size_t>(file)]; }
  const std::vector<int>& fds() const { return fds_; }
  bool direct() const { return direct_; }

 private:
  std::vector<int> fds_;
  bool direct_ = true;
};

// One read and how far it has come.
struct ReadProgress {
  ReadRequest request;
  uint64_t done_bytes = 0;

  uint64_t left_bytes() const { return request.out.size() - done_bytes; }
  uint64_t position() const { return request.offset_bytes + done_bytes; }
  std::byte* address() const { return request.out.data() + done_bytes; }

  // Takes in what one call returned (bytes, or -errno). True if the read has ended, and then
  // `result` says how. A direct read can only go on from an aligned position, so what a short call
  // brought beyond one is read again.
  bool Advance(int64_t returned, int fd, ReadResult& result);
};

// The reads that have not begun. The caller locks.
class ReadQueue {
 public:
  bool empty() const { return demand_.empty() && prefetch_.empty(); }
  // All of them or, if it throws, none.
  void Push(std::span<const ReadRequest> requests) {
    const size_t demands = demand_.size();
    const size_t prefetches = prefetch_.size();
    try {
      for (const ReadRequest& request : requests) {
        (request.priority == ReadPriority::kDemand ? demand_ : prefetch_).push_back(request);
      }
    } catch (...) {
      demand_.resize(demands);
      prefetch_.resize(prefetches);
      throw;
    }
  }
  ReadRequest Pop() {
    std::deque<ReadRequest>& queue = demand_.empty() ? prefetch_ : demand_;
    const ReadRequest request = queue.front();
    queue.pop_front();
    return request;
  }
  void Promote(uint64_t tag) {
    const auto it = Find(prefetch_, tag);
    if (it != prefetch_.end()) {
      demand_.push_back(*it);
      prefetch_.erase(it);
    }
  }
  bool Remove(uint64_t tag) {
    for (std::deque<ReadRequest>* queue : {&demand_, &prefetch_}) {
      const auto it = Find(*queue, tag);
      if (it != queue->end()) {
        queue->erase(it);
        return true;
      }
    }
    return false;
  }

 private:
  static std::deque<ReadRequest>::iterator Find(std::deque<ReadRequest>& queue, uint64_t tag) {
    return std::find_if(queue.begin(), queue.end(),
                        [tag](const ReadRequest& request) { return request.tag == tag; });
  }

  std::deque<ReadRequest> demand_;
  std::deque<ReadRequest> prefetch_;
};

// Null if this system refuses io_uring; `refusal` then says why.
std::unique_ptr<DirectReader> MakeUringReader(const DirectReaderOptions& options,
                                              std::unique_ptr<ReadFiles>& files,
                                              std::string& refusal);
std::unique_ptr<DirectReader> MakePreadReader(const DirectReaderOptions& options,
                                              std::unique_ptr<ReadFiles> files);

}  // namespace mach::internal
