// What the two engines of direct_reader.h share. Private to platform/.
#pragma once

#include <algorithm>
#include <array>
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
  bool empty() const {
    return std::ranges::all_of(queues_, [](const Queue& queue) { return queue.empty(); });
  }
  // All of them or, if it throws, none.
  void Push(std::span<const ReadRequest> requests) {
    std::array<size_t, kReadPriorities> sizes;
    for (size_t i = 0; i < queues_.size(); ++i) {
      sizes[i] = queues_[i].size();
    }
    try {
      for (const ReadRequest& request : requests) {
        Of(request.priority).push_back(request);
      }
    } catch (...) {
      for (size_t i = 0; i < queues_.size(); ++i) {
        queues_[i].resize(sizes[i]);
      }
      throw;
    }
  }
  // The most urgent one; there must be one.
  ReadRequest Pop() {
    Queue& queue = *std::ranges::find_if(queues_, [](const Queue& q) { return !q.empty(); });
    const ReadRequest request = queue.front();
    queue.pop_front();
    return request;
  }
  void Promote(uint64_t tag, ReadPriority priority) {
    for (size_t i = static_cast<size_t>(priority) + 1; i < queues_.size(); ++i) {
      const auto it = Find(queues_[i], tag);
      if (it != queues_[i].end()) {
        Of(priority).push_back(*it);
        queues_[i].erase(it);
        return;
      }
    }
  }
  void Clear() {
    for (Queue& queue : queues_) {
      queue.clear();
    }
  }
  bool Remove(uint64_t tag) {
    for (Queue& queue : queues_) {
      const auto it = Find(queue, tag);
      if (it != queue.end()) {
        queue.erase(it);
        return true;
      }
    }
    return false;
  }

 private:
  using Queue = std::deque<ReadRequest>;

  static Queue::iterator Find(Queue& queue, uint64_t tag) {
    return std::ranges::find(queue, tag, &ReadRequest::tag);
  }
  Queue& Of(ReadPriority priority) { return queues_[static_cast<size_t>(priority)]; }

  std::array<Queue, kReadPriorities> queues_;
};

// Null if this system refuses io_uring; `refusal` then says why.
std::unique_ptr<DirectReader> MakeUringReader(const DirectReaderOptions& options,
                                              std::unique_ptr<ReadFiles>& files,
                                              std::string& refusal);
std::unique_ptr<DirectReader> MakePreadReader(const DirectReaderOptions& options,
                                              std::unique_ptr<ReadFiles> files);

}  // namespace mach::internal
