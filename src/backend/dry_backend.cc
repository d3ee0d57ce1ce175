#include "backend/dry_backend.h"

#include <utility>
#include <vector>

#include "base/check.h"

namespace mach::backend {
namespace {

// All at once, as from memory.
class DryLease final : public ExpertLease {
 public:
  explicit DryLease(std::span<const WantedExpert> wanted) {
    for (const WantedExpert& expert : wanted) {
      ready_.push_back({.id = expert.id, .record = nullptr});
    }
  }
  std::span<const ReadyExpert> Next(const std::atomic<bool>* /*cancel*/) override {
    returned_ = std::exchange(ready_, {});
    return returned_;
  }

 private:
  std::vector<ReadyExpert> ready_;
  std::vector<ReadyExpert> returned_;
};

class DryExperts final : public ExpertSource {
 public:
  DryExperts(const ExpertLayout& layout, int32_t layers, int32_t experts)
      : layout_(layout), layers_(layers), experts_(experts) {}
  const ExpertLayout& layout() const override { return layout_; }
  int32_t layers() const override { return layers_; }
  int32_t experts() const override { return experts_; }
  std::unique_ptr<ExpertLease> Acquire(int32_t /*layer*/, std::span<const WantedExpert> wanted,
                                       int64_t /*tokens*/, ExpertUse /*use*/) override {
    return std::make_unique<DryLease>(wanted);
  }
  void Prefetch(int32_t /*layer*/, std::span<const int32_t> /*ids*/) override {}
  bool prefetches() const override { return false; }

 private:
  ExpertLayout layout_;
  int32_t layers_;
  int32_t experts_;
};

}  // namespace

std::unique_ptr<Backend> MakeDryBackend(MemoryBudget& budget, const CpuOptions& options) {
  MACH_CHECK(budget.dry());
  return MakeCpuBackend(budget, options);
}

std::unique_ptr<ExpertSource> MakeDryExperts(const ExpertLayout& layout, int32_t layers,
                                             int32_t experts) {
  return std::make_unique<DryExperts>(layout, layers, experts);
}

}  // namespace mach::backend
