#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <utility>

#include "base/check.h"
#include "experts/expert_store.h"
#include "experts/record_reader.h"
#include "platform/thread_pool.h"

namespace mach::experts {
namespace {

// Every record in one buffer, layer by layer.
class ResidentStore final : public ExpertStore {
 public:
  ResidentStore(const ExpertLayout& layout, int32_t layers, std::vector<int32_t> moe_layers,
                int32_t experts, MemoryBudget& budget)
      : layout_(layout),
        moe_layers_(std::move(moe_layers)),
        experts_(experts),
        moe_layer_of_(static_cast<size_t>(layers), -1),
        hits_(moe_layers_.size()),
        prefill_hits_(moe_layers_.size()),
        records_(budget, "experts",
                 moe_layers_.size() * static_cast<uint64_t>(experts) * layout.record_bytes) {
    for (size_t i = 0; i < moe_layers_.size(); ++i) {
      moe_layer_of_[static_cast<size_t>(moe_layers_[i])] = static_cast<int32_t>(i);
    }
  }

  const ExpertLayout& layout() const override { return layout_; }
  int32_t layers() const override { return static_cast<int32_t>(moe_layer_of_.size()); }
  int32_t experts() const override { return experts_; }

  std::unique_ptr<backend::ExpertLease> Acquire(int32_t layer,
                                                std::span<const backend::WantedExpert> wanted,
                                                int64_t /*tokens*/,
                                                backend::ExpertUse use) override {
    const int32_t moe_layer = moe_layer_of_[static_cast<size_t>(layer)];
    MACH_CHECK(moe_layer >= 0);
    auto& hits = use == backend::ExpertUse::kDecode ? hits_ : prefill_hits_;
    hits[static_cast<size_t>(moe_layer)].fetch_add(static_cast<int64_t>(wanted.size()),
                                                   std::memory_order_relaxed);
    auto lease = std::make_unique<Lease>();
    lease->ready.reserve(wanted.size());
    for (const backend::WantedExpert& expert : wanted) {
      lease->ready.push_back({expert.id, Record(moe_layer, expert.id)});
    }
    return lease;
  }
  void Prefetch(int32_t, std::span<const int32_t>) override {}
  bool prefetches() const override { return false; }

  ExpertStats Stats() const override {
    ExpertStats stats = read_stats;
    stats.experts_resident = static_cast<int64_t>(moe_layers_.size()) * experts_;
    stats.capacity = stats.experts_resident;
    for (size_t i = 0; i < moe_layers_.size(); ++i) {
      stats.AddLayer({.layer = moe_layers_[i],
                      .resident = experts_,
                      .hits = hits_[i].load(std::memory_order_relaxed),
                      .prefill_hits = prefill_hits_[i].load(std::memory_order_relaxed)});
    }
    return stats;
  }
  void SaveHeat() override {}

  std::byte* Record(int32_t moe_layer, int32_t expert) {
    return records_.data() +
           static_cast<uint64_t>(moe_layer * experts_ + expert) * layout_.record_bytes;
  }
  std::span<std::byte> memory() { return {records_.data(), records_.size_bytes()}; }

  ExpertStats read_stats = {.io = "none", .policy = "resident"};  // of loading; set before use

 private:
  struct Lease final : backend::ExpertLease {
    std::span<const backend::ReadyExpert> Next(const std::atomic<bool>* /*cancel*/) override {
      if (std::exchange(returned, true)) {
        return {};
      }
      return ready;
    }
    std::vector<backend::ReadyExpert> ready;
    bool returned = false;
  };

  const ExpertLayout layout_;
  const std::vector<int32_t> moe_layers_;
  const int32_t experts_;
  std::vector<int32_t> moe_layer_of_;               // [layers], -1: has no experts
  std::vector<std::atomic<int64_t>> hits_;          // [MoE layers], of decoding
  std::vector<std::atomic<int64_t>> prefill_hits_;  // [MoE layers]
  Buffer records_;
};

// Reads with a window of records under way, so that a failure ends the work soon.
class SidecarLoader {
 public:
  SidecarLoader(const formats::ExpertSidecar& sidecar, ResidentStore& store)
      : sidecar_(sidecar),
        store_(store),
        total_(static_cast<int64_t>(sidecar.moe_layers.size()) * sidecar.experts) {}

  void Load(const OpenReader& open_reader, const std::function<void(uint64_t)>& progress) {
    constexpr int64_t kWindow = 64;
    DirectReaderOptions options;
    options.how.allow_buffered = true;  // read once; nothing slows down later
    RecordReader reader(sidecar_, options, static_cast<uint64_t>(kWindow), open_reader,
                        [this](std::span<RecordResult> results) { OnReadsDone(results); });
    std::vector<RecordRead> reads;
    std::unique_lock lock(mutex_);
    for (int64_t i = 0; i < std::min(kWindow, total_); ++i) {
      free_places_.push_back(static_cast<uint64_t>(i));
    }
    for (int64_t next = 0; done_ < total_;) {
      for (; next < total_ && !free_places_.empty(); ++next) {
        const auto moe_layer = static_cast<int32_t>(next / sidecar_.experts);
        const auto expert = static_cast<int32_t>(next % sidecar_.experts);
        reads.push_back({free_places_.back(), moe_layer, expert, store_.Record(moe_layer, expert),
                         ReadPriority::kDemand});
        free_places_.pop_back();
      }
      lock.unlock();
      reader.Read(reads);
      reads.clear();
      lock.lock();
      changed_.wait(lock, [&] {
        return error_ || done_ == total_ || (next < total_ && !free_places_.empty());
      });
      if (error_) {
        throw Error(*error_);
      }
      const auto bytes = static_cast<uint64_t>(done_) * sidecar_.layout.record_bytes;
      lock.unlock();
      if (progress) {
        progress(bytes);
      }
      lock.lock();
    }
    const RecordReaderStats stats = reader.Stats();
    store_.read_stats.bytes_read = stats.bytes_read;
    store_.read_stats.read_seconds = stats.read_seconds;
    store_.read_stats.read_errors = stats.read_errors;
    store_.read_stats.records_checked = stats.records_checked;
    store_.read_stats.direct = reader.direct();
    store_.read_stats.io = reader.engine();
  }

 private:
  void OnReadsDone(std::span<RecordResult> results) {
    const std::lock_guard lock(mutex_);
    for (RecordResult& result : results) {
      ++done_;
      free_places_.push_back(result.place);
      if (result.error && !error_) {
        error_ = std::move(result.error);
      }
    }
    changed_.notify_one();
  }

  const formats::ExpertSidecar& sidecar_;
  ResidentStore& store_;
  const int64_t total_;  // records
  std::mutex mutex_;     // of what follows
  std::condition_variable changed_;
  std::vector<uint64_t> free_places_;
  int64_t done_ = 0;
  std::optional<Error> error_;
};

}  // namespace

std::unique_ptr<ExpertStore> MakeResidentStore(const ExpertLayout& layout, int32_t layers,
                                               const std::vector<int32_t>& moe_layers,
                                               int32_t experts, int threads, MemoryBudget& budget,
                                               const RecordWriter& write) {
  auto store = std::make_unique<ResidentStore>(layout, layers, moe_layers, experts, budget);
  ThreadPool pool(threads);
  const auto records = static_cast<int64_t>(moe_layers.size()) * experts;
  pool.ParallelFor(records, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const auto moe_layer = static_cast<int32_t>(i / experts);
      const auto expert = static_cast<int32_t>(i % experts);
      write(moe_layers[static_cast<size_t>(moe_layer)], expert,
            {store->Record(moe_layer, expert), layout.record_bytes});
    }
  });
  return store;
}

std::unique_ptr<ExpertStore> MakeResidentStore(const formats::ExpertSidecar& sidecar,
                                               MemoryBudget& budget,
                                               const std::function<void(uint64_t)>& progress,
                                               const OpenReader& open_reader) {
  std::vector<int32_t> moe_layers;
  for (const formats::SidecarLayer& layer : sidecar.moe_layers) {
    moe_layers.push_back(layer.layer);
  }
  auto store = std::make_unique<ResidentStore>(sidecar.layout, sidecar.layers,
                                               std::move(moe_layers), sidecar.experts, budget);
  SidecarLoader(sidecar, *store).Load(open_reader, progress);
  return store;
}

}  // namespace mach::experts
