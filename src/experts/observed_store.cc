#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "experts/expert_store.h"

namespace mach::experts {
namespace {

class ObservedStore final : public ExpertStore {
 public:
  ObservedStore(std::unique_ptr<ExpertStore> store, const std::vector<int32_t>& moe_layers,
                std::optional<TraceWriter> trace)
      : store_(std::move(store)),
        moe_layer_of_(static_cast<size_t>(store_->layers()), -1),
        trace_(std::move(trace)),
        stats_({static_cast<int32_t>(moe_layers.size()), store_->experts()}) {
    for (size_t i = 0; i < moe_layers.size(); ++i) {
      moe_layer_of_[static_cast<size_t>(moe_layers[i])] = static_cast<int32_t>(i);
    }
  }

  const ExpertLayout& layout() const override { return store_->layout(); }
  int32_t layers() const override { return store_->layers(); }
  int32_t experts() const override { return store_->experts(); }
  std::unique_ptr<backend::ExpertLease> Acquire(int32_t layer,
                                                std::span<const backend::WantedExpert> wanted,
                                                int64_t tokens, backend::ExpertUse use) override {
    if (use == backend::ExpertUse::kDecode) {
      const int32_t moe_layer = moe_layer_of_[static_cast<size_t>(layer)];
      MACH_CHECK(moe_layer >= 0);
      ids_.clear();
      for (const backend::WantedExpert& expert : wanted) {
        ids_.push_back(expert.id);
      }
      if (trace_) {
        trace_->Append(moe_layer, ids_);
      }
      const std::lock_guard lock(mutex_);
      stats_.Add(moe_layer, ids_);
    }
    return store_->Acquire(layer, wanted, tokens, use);
  }
  void Prefetch(int32_t layer, std::span<const int32_t> ids) override {
    store_->Prefetch(layer, ids);
  }
  bool prefetches() const override { return store_->prefetches(); }
  ExpertStats Stats() const override {
    ExpertStats stats = store_->Stats();
    const std::lock_guard lock(mutex_);
    stats.routing = stats_.Summary();
    return stats;
  }
  std::vector<std::string> Map() const override { return store_->Map(); }
  void SaveHeat() override { store_->SaveHeat(); }

 private:
  const std::unique_ptr<ExpertStore> store_;
  std::vector<int32_t> moe_layer_of_;  // [layers], -1: has no experts
  std::optional<TraceWriter> trace_;
  std::vector<int32_t> ids_;  // of one call
  mutable std::mutex mutex_;
  RoutingStats stats_;  // by mutex_
};

}  // namespace

std::unique_ptr<ExpertStore> MakeObservedStore(std::unique_ptr<ExpertStore> store,
                                               const std::vector<int32_t>& moe_layers,
                                               std::optional<TraceWriter> trace) {
  return std::make_unique<ObservedStore>(std::move(store), moe_layers, std::move(trace));
}

}  // namespace mach::experts
