// What requests are charged: steps that they share cost each a part, and the parts are the whole.
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "engine/cost_meter.h"
#include "tests/engine/local_engine_fixture.h"

namespace mach::engine {
namespace {

TEST(Shares, AddUpToTheWhole) {
  const ExpertCost cost{.hits = 10, .misses = 1, .bytes_read = 1000003, .stall_s = 0.5};
  for (const std::vector<int64_t>& rows :
       {std::vector<int64_t>{1}, {1, 1}, {1, 5, 1}, {3, 0, 4}, {7, 1, 1, 1, 9, 2}}) {
    int64_t all = 0;
    for (const int64_t count : rows) {
      all += count;
    }
    const std::vector<ExpertCost> shares = Shares(cost, rows);
    ASSERT_EQ(shares.size(), rows.size());
    ExpertCost sum;
    for (size_t i = 0; i < rows.size(); ++i) {
      sum += shares[i];
      const double part = static_cast<double>(rows[i]) / static_cast<double>(all);
      EXPECT_NEAR(static_cast<double>(shares[i].hits), 10 * part, 1);
      EXPECT_NEAR(static_cast<double>(shares[i].bytes_read), 1000003 * part, 1);
      EXPECT_NEAR(shares[i].stall_s, 0.5 * part, 1e-12);
    }
    EXPECT_EQ(sum.hits, cost.hits);
    EXPECT_EQ(sum.misses, cost.misses);
    EXPECT_EQ(sum.bytes_read, cost.bytes_read);
    EXPECT_NEAR(sum.stall_s, cost.stall_s, 1e-12);
  }
}

// Counts as if each step asked for experts.
class CountingStore final : public experts::ExpertStore {
 public:
  void CountStep() {
    const std::lock_guard lock(mutex_);
    stats_.hits += 7;
    stats_.misses += 2;
    stats_.bytes_read += 1001;
    stats_.stall_seconds += 0.25;
  }
  experts::ExpertStats Stats() const override {
    const std::lock_guard lock(mutex_);
    return stats_;
  }
  void SaveHeat() override {}
  const ExpertLayout& layout() const override { return layout_; }
  int32_t layers() const override { return 0; }
  int32_t experts() const override { return 0; }
  std::unique_ptr<backend::ExpertLease> Acquire(int32_t /*layer*/,
                                                std::span<const backend::WantedExpert> /*wanted*/,
                                                int64_t /*tokens*/,
                                                backend::ExpertUse /*use*/) override {
    return nullptr;
  }
  void Prefetch(int32_t /*layer*/, std::span<const int32_t> /*ids*/) override {}
  bool prefetches() const override { return false; }

 private:
  mutable std::mutex mutex_;
  experts::ExpertStats stats_;
  ExpertLayout layout_;
};

class CountingModel final : public models::Model {
 public:
  CountingModel(std::unique_ptr<models::Model> model, CountingStore& store)
      : model_(std::move(model)), store_(store) {}
  const models::ModelShape& shape() const override { return model_->shape(); }
  backend::Backend& backend() override { return model_->backend(); }
  std::unique_ptr<state::SequenceState> NewSequence() override { return model_->NewSequence(); }
  std::unique_ptr<models::StepRun> Begin(const models::StepSpec& spec) override {
    store_.CountStep();
    return model_->Begin(spec);
  }
  uint64_t ActiveWeightBytes() const override { return model_->ActiveWeightBytes(); }

 private:
  const std::unique_ptr<models::Model> model_;
  CountingStore& store_;
};

class CostShares : public LocalEngineTest {
 protected:
  void TearDown() override { engine_.reset(); }

  CountingStore store_;
};

TEST_F(CostShares, RequestsInOneBatchAreChargedTheirPartOfIt) {
  Start(
      {.max_context = 200,
       .prefill_chunk = 16,
       .max_queue = 8,
       .limits = {.max_requests = 2, .max_batch = 2}},
      [&](auto model) { return std::make_unique<CountingModel>(std::move(model), store_); },
      &store_);
  const auto one = std::make_shared<RecordingSink>();
  const auto other = std::make_shared<RecordingSink>();
  const double begin_s = NowSeconds();
  const GenerationHandles handles = engine_->SubmitAll({{Request(40), one}, {Request(40), other}});
  const Usage first = *one->Wait().usage;
  const Usage second = *other->Wait().usage;
  const double elapsed_s = NowSeconds() - begin_s;

  // One chunk of prefill for each; what is left is shared.
  EXPECT_EQ(first.prefill_experts.hits, 7);
  EXPECT_EQ(second.prefill_experts.hits, 7);
  const ExpertCost whole = ExpertCost::Of(store_.Stats());
  ExpertCost sum = first.experts;
  sum += second.experts;
  EXPECT_EQ(sum.hits, whole.hits - 2 * 7);
  EXPECT_EQ(sum.misses, whole.misses - 2 * 2);
  EXPECT_EQ(sum.bytes_read, whole.bytes_read - 2 * 1001);
  EXPECT_NEAR(sum.stall_s, whole.stall_s - 2 * 0.25, 1e-9);
  // 39 steps for each at most, most of them together.
  EXPECT_LT(sum.hits, 50 * 7);
  EXPECT_NEAR(static_cast<double>(first.experts.hits), static_cast<double>(second.experts.hits),
              40 + 2 * 7);

  // Times are what was waited: one after another, and of both requests nearly the same.
  for (const Usage& usage : {first, second}) {
    EXPECT_GT(usage.prefill_s, 0);
    EXPECT_LE(usage.queue_s + usage.prefill_s + usage.decode_s, elapsed_s);
  }
  EXPECT_GT(first.decode_s + second.decode_s, engine_->Snapshot().decode_s);
}

}  // namespace
}  // namespace mach::engine
