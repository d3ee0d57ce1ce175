#include "tests/support/faulty_reader.h"

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include "tests/support/forwarding_reader.h"

namespace mach::testing_support {
namespace {

class FaultyReader final : public ForwardingReader {
 public:
  FaultyReader(std::unique_ptr<DirectReader> reader, FaultPattern pattern)
      : ForwardingReader(std::move(reader)), pattern_(std::move(pattern)) {}

  void Submit(std::span<const ReadRequest> requests) override {
    {
      const std::lock_guard lock(mutex_);
      for (const ReadRequest& request : requests) {
        under_way_[request.tag] = {request.out, pattern_(next_index_++, request)};
      }
    }
    ForwardingReader::Submit(requests);
  }
  bool Cancel(uint64_t tag) override {
    const std::lock_guard lock(mutex_);
    if (!ForwardingReader::Cancel(tag)) {
      return false;
    }
    under_way_.erase(tag);
    if (under_way_.empty()) {
      ForwardingReader::Interrupt();  // nothing is left that late results could wait for
    }
    return true;
  }

  std::span<const ReadResult> Wait() override {
    returned_.clear();
    if (!ReleaseLate()) {
      for (const ReadResult& result : ForwardingReader::Wait()) {
        Take(result);
      }
      if (returned_.empty()) {
        ReleaseLate();
      }
    }
    return returned_;
  }
  void Interrupt() override {
    {
      const std::lock_guard lock(mutex_);
      interrupted_ = true;
    }
    ForwardingReader::Interrupt();
  }

 private:
  struct UnderWay {
    std::span<std::byte> out;
    ReadFault fault = ReadFault::kNone;
  };

  void Take(ReadResult result) {
    const std::lock_guard lock(mutex_);
    const auto node = under_way_.extract(result.tag);
    const std::span<std::byte> out = node.mapped().out;
    switch (node.mapped().fault) {
      case ReadFault::kNone:
        break;
      case ReadFault::kLate:
        late_.push_back(result);
        return;
      case ReadFault::kHang:
        if (!interrupted_) {
          hanging_.push_back(result);
          return;
        }
        break;
      case ReadFault::kShort:
        result.bytes = std::min<uint64_t>(result.bytes, out.size() / 2);
        std::fill(out.begin() + static_cast<ptrdiff_t>(result.bytes), out.end(), std::byte{0xa5});
        break;
      case ReadFault::kFail:
        result = {result.tag, 0, EIO};
        break;
      case ReadFault::kBitFlip:
        out[out.size() / 3] ^= std::byte{0x10};
        break;
    }
    returned_.push_back(result);
  }

  bool ReleaseLate() {
    const std::lock_guard lock(mutex_);
    if (interrupted_ && !hanging_.empty()) {
      returned_.swap(hanging_);
      return true;
    }
    if (!under_way_.empty() || late_.empty()) {
      return false;
    }
    returned_.swap(late_);
    return true;
  }

  std::mutex mutex_;
  const FaultPattern pattern_;
  uint64_t next_index_ = 0;
  std::unordered_map<uint64_t, UnderWay> under_way_;  // submitted, no result taken yet
  bool interrupted_ = false;
  std::vector<ReadResult> hanging_;   // of the waiting thread
  std::vector<ReadResult> late_;      // of the waiting thread
  std::vector<ReadResult> returned_;  // of the waiting thread
};

}  // namespace

std::unique_ptr<DirectReader> InjectFaults(std::unique_ptr<DirectReader> reader,
                                           FaultPattern pattern) {
  return std::make_unique<FaultyReader>(std::move(reader), std::move(pattern));
}

}  // namespace mach::testing_support
