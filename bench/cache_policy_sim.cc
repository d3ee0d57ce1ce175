// Hit rates of the expert cache policies at several capacities beside Belady's optimum, over
// recorded routing traces (experts/trace_writer.h) or, without any, over synthetic ones: Zipf
// weights, with and without drift and repetition. usage: cache_policy_sim [TRACE ...]

#include <algorithm>
#include <cstdio>
#include <exception>
#include <string>
#include <utility>
#include <vector>

#include "experts/routing_stats.h"
#include "tests/support/policy_simulator.h"

namespace mach::bench {
namespace {

using experts::CachePolicyNames;
using testing_support::RoutingEvent;
using testing_support::RoutingTrace;
using testing_support::SimulateOptimum;
using testing_support::SimulatePolicy;
using testing_support::SyntheticRouting;

void Print(const std::string& name, const RoutingTrace& trace) {
  size_t largest = 0;
  experts::RoutingStats stats(trace.shape);
  for (const RoutingEvent& event : trace.events) {
    largest = std::max(largest, event.ids.size());
    stats.Add(event.layer, event.ids);
  }
  const experts::RoutingSummary routing = stats.Summary();
  std::printf(
      "\n%s: %d layers, %lld steps; %.0f of %d experts of a layer used, as diverse as %.0f "
      "equally popular ones; the most popular in %.0f %% of the steps; %.0f %% were used by "
      "the step before\n| slots | share |",
      name.c_str(), trace.shape.layers, static_cast<long long>(routing.steps), routing.distinct,
      routing.experts, routing.effective, 100 * routing.top, 100 * routing.repeated);
  for (const std::string& policy : CachePolicyNames()) {
    std::printf(" %s |", policy.c_str());
  }
  std::printf(" optimum |\n|");
  for (size_t column = 0; column < CachePolicyNames().size() + 3; ++column) {
    std::printf("---|");
  }
  std::printf("\n");
  for (const double share : {0.05, 0.1, 0.2, 0.4, 0.6, 0.8}) {
    const auto capacity =
        std::max(static_cast<int64_t>(largest), static_cast<int64_t>(share * trace.shape.keys()));
    std::printf("| %lld | %.2f |", static_cast<long long>(capacity), share);
    for (const std::string& policy : CachePolicyNames()) {
      std::printf(" %.3f |", SimulatePolicy(trace, policy, capacity).rate());
    }
    std::printf(" %.3f |\n", SimulateOptimum(trace, capacity).rate());
  }
}

int Run(const std::vector<std::string>& files) {
  for (const std::string& file : files) {
    Print(file, RoutingTrace::Load(file));
  }
  if (!files.empty()) {
    return 0;
  }
  struct Case {
    const char* name;
    double skew;
    double repeat;
    double drift_steps;
  };
  for (const Case& c :
       {Case{"skew 0.5", 0.5, 0, 0}, Case{"skew 1", 1, 0, 0},
        Case{"skew 0.7, repeat 0.3", 0.7, 0.3, 0}, Case{"skew 1, a swap every 5 steps", 1, 0, 5},
        Case{"skew 1, repeat 0.3, a swap every step", 1, 0.3, 1}}) {
    SyntheticRouting routing;
    routing.shape = {40, 256};
    routing.steps = 1000;
    routing.skew = c.skew;
    routing.repeat = c.repeat;
    routing.drift_steps = c.drift_steps;
    Print(c.name, MakeSyntheticTrace(routing));
  }
  return 0;
}

}  // namespace
}  // namespace mach::bench

int main(int argc, char** argv) {
  try {
    return mach::bench::Run({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "cache_policy_sim: %s\n", error.what());
    return 1;
  }
}
