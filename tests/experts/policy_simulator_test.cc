#include "tests/support/policy_simulator.h"

#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "experts/trace_writer.h"
#include "platform/file.h"
#include "tests/support/test_sidecar.h"

namespace mach::testing_support {
namespace {

TEST(PolicySimulator, NoPolicyBeatsTheOptimumAndFrequencyBeatsRecencyUnderSkew) {
  SyntheticRouting routing;
  routing.steps = 600;
  const RoutingTrace trace = MakeSyntheticTrace(routing);
  for (const int64_t capacity : {128, 300, 600}) {
    const SimulatedHits optimum = SimulateOptimum(trace, capacity);
    const SimulatedHits lru = SimulatePolicy(trace, "lru", capacity);
    EXPECT_EQ(optimum.requests, 600 * 16 * 8);
    EXPECT_LE(lru.hits, optimum.hits);
    for (const char* name : {"lfu", "next_use"}) {
      const SimulatedHits hits = SimulatePolicy(trace, name, capacity);
      EXPECT_LE(hits.hits, optimum.hits);
      EXPECT_GT(hits.hits, lru.hits) << name << " " << capacity;
    }
  }
  // Room for everything: only the first request of each expert misses.
  const SimulatedHits all = SimulatePolicy(trace, "lfu", 16 * 64);
  EXPECT_EQ(all.hits, SimulateOptimum(trace, 16 * 64).hits);
  EXPECT_GE(all.hits, all.requests - 16 * 64);
}

TEST(PolicySimulator, TheOptimumOfASmallCaseIsKnown) {
  // Room for two, one expert at a time: 2 has to push out 1, which is needed after 0.
  RoutingTrace trace = {{1, 3}, {}};
  for (const int32_t id : {0, 1, 2, 0, 1}) {
    trace.events.push_back({0, 0, {id}});
  }
  EXPECT_EQ(SimulateOptimum(trace, 2).hits, 1);
  EXPECT_EQ(SimulatePolicy(trace, "lru", 2).hits, 0);
  EXPECT_EQ(SimulateOptimum(trace, 3).hits, 2);
}

TEST(RoutingTrace, IsReadAsItWasWritten) {
  TestSidecar sidecar(1, 1);
  const std::filesystem::path path = sidecar.value().dir / "trace.bin";
  {
    experts::TraceWriter writer(path, {3, 8});
    writer.Append(0, std::vector<int32_t>{1, 7});
    writer.Append(2, std::vector<int32_t>{0});
    writer.Append(0, std::vector<int32_t>{3, 4});
  }
  const RoutingTrace trace = RoutingTrace::Load(path);
  EXPECT_EQ(trace.shape.layers, 3);
  EXPECT_EQ(trace.shape.experts, 8);
  ASSERT_EQ(trace.events.size(), 3U);
  EXPECT_EQ(trace.events[0].ids, (std::vector<int32_t>{1, 7}));
  EXPECT_EQ(trace.events[1].layer, 2);
  EXPECT_EQ(trace.events[1].step, 0U);
  EXPECT_EQ(trace.events[2].step, 1U);
  const std::string good = ReadWholeFile(path);
  WriteFileAtomically(path, good.substr(0, good.size() - 1));
  EXPECT_EQ(RoutingTrace::Load(path).events.size(), 2U);
  std::string bad = good;
  bad[20] = 9;  // a layer that is not there
  WriteFileAtomically(path, bad);
  EXPECT_THROW(RoutingTrace::Load(path), Error);
  WriteFileAtomically(path, "MACH");
  EXPECT_THROW(RoutingTrace::Load(path), Error);
}

}  // namespace
}  // namespace mach::testing_support
