#include "experts/routing_stats.h"

#include <cmath>
#include <filesystem>
#include <memory>
#include <vector>

#include <gtest/gtest.h>

#include "experts/expert_store.h"
#include "tests/support/acquire.h"
#include "tests/support/routing_trace.h"
#include "tests/support/test_sidecar.h"

namespace mach::experts {
namespace {

using testing_support::Acquire;

TEST(RoutingStats, CountsByHand) {
  RoutingStats stats({2, 8});
  EXPECT_EQ(stats.Summary().steps, 0);
  // Layer 0: four experts, equally popular, two of four repeated. Layer 1: two, always the same.
  stats.Add(0, std::vector<int32_t>{0, 1});
  stats.Add(1, std::vector<int32_t>{6, 7});
  stats.Add(0, std::vector<int32_t>{0, 2});
  stats.Add(1, std::vector<int32_t>{6, 7});
  stats.Add(0, std::vector<int32_t>{2, 3});
  stats.Add(1, std::vector<int32_t>{6, 7});
  const RoutingSummary summary = stats.Summary();
  EXPECT_EQ(summary.steps, 3);
  EXPECT_EQ(summary.experts, 8);
  EXPECT_DOUBLE_EQ(summary.distinct, (4 + 2) / 2.0);
  EXPECT_DOUBLE_EQ(summary.top, (2 / 3.0 + 1) / 2);
  EXPECT_DOUBLE_EQ(summary.repeated, (2 / 4.0 + 1) / 2);
  // Shares 1/3, 1/6, 1/3, 1/6 and 1/2, 1/2.
  const double effective = std::exp(2.0 / 3 * std::log(3.0) + 1.0 / 3 * std::log(6.0));
  EXPECT_NEAR(summary.effective, (effective + 2) / 2, 1e-12);
}

TEST(ObservedStore, CountsAndRecordsDecodeStepsOnly) {
  testing_support::TestSidecar sidecar(3, 16);  // layers 1 to 3
  MemoryBudget budget;
  const std::filesystem::path trace = sidecar.value().dir / "trace";
  {
    const auto store = MakeObservedStore(MakeResidentStore(sidecar.value(), budget, {}), {1, 2, 3},
                                         TraceWriter(trace, {3, 16}));
    for (const auto use : {backend::ExpertUse::kDecode, backend::ExpertUse::kPrefill}) {
      for (const std::vector<int32_t>& ids : {std::vector<int32_t>{1, 5}, {5, 9}}) {
        for (const int32_t layer : {1, 3}) {
          const auto lease = Acquire(*store, layer, ids, use);
          const auto ready = lease->Next(nullptr);
          ASSERT_EQ(ready.size(), 2U);
          EXPECT_EQ(ready[1].id, ids[1]);
        }
      }
    }
    const ExpertStats stats = store->Stats();
    EXPECT_EQ(stats.hits, 8);
    EXPECT_EQ(stats.prefill_hits, 8);
    ASSERT_TRUE(stats.routing);
    EXPECT_EQ(stats.routing->steps, 2);
    EXPECT_DOUBLE_EQ(stats.routing->distinct, 3);
    EXPECT_DOUBLE_EQ(stats.routing->repeated, 0.5);
  }
  const auto recorded = testing_support::RoutingTrace::Load(trace);
  ASSERT_EQ(recorded.events.size(), 4U);
  EXPECT_EQ(recorded.shape.layers, 3);
  EXPECT_EQ(recorded.events[3].layer, 2);
  EXPECT_EQ(recorded.events[3].ids, (std::vector<int32_t>{5, 9}));
}

}  // namespace
}  // namespace mach::experts
