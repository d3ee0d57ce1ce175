#include "tests/support/policy_simulator.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <set>
#include <utility>

#include "base/check.h"

namespace mach::testing_support {
namespace {

int32_t KeyOf(const experts::CacheShape& shape, const RoutingEvent& event, int32_t id) {
  return event.layer * shape.experts + id;
}

}  // namespace

SimulatedHits SimulatePolicy(const RoutingTrace& trace, std::string_view policy, int64_t capacity) {
  const std::unique_ptr<experts::CachePolicy> cache = experts::MakeCachePolicy(policy, trace.shape);
  std::vector<size_t> last_event(static_cast<size_t>(trace.shape.keys()), 0);
  std::vector<bool> resident(static_cast<size_t>(trace.shape.keys()), false);
  int64_t used = 0;
  SimulatedHits result;
  for (size_t i = 0; i < trace.events.size(); ++i) {
    const RoutingEvent& event = trace.events[i];
    MACH_CHECK(static_cast<int64_t>(event.ids.size()) <= capacity);
    cache->BeginLayer(event.layer, 1);
    for (const int32_t id : event.ids) {
      const int32_t key = KeyOf(trace.shape, event, id);
      cache->Use(key, 1);
      last_event[static_cast<size_t>(key)] = i + 1;
      ++result.requests;
      result.hits += resident[static_cast<size_t>(key)] ? 1 : 0;
    }
    for (const int32_t id : event.ids) {
      const int32_t key = KeyOf(trace.shape, event, id);
      if (resident[static_cast<size_t>(key)]) {
        continue;
      }
      if (used == capacity) {
        const int32_t victim = cache->Victim(
            [&](int32_t other) { return last_event[static_cast<size_t>(other)] != i + 1; });
        cache->Erase(victim);
        resident[static_cast<size_t>(victim)] = false;
        --used;
      }
      cache->Insert(key);
      resident[static_cast<size_t>(key)] = true;
      ++used;
    }
  }
  return result;
}

SimulatedHits SimulateOptimum(const RoutingTrace& trace, int64_t capacity) {
  constexpr size_t kNever = std::numeric_limits<size_t>::max();
  // For each request, in order, the event that requests the same key next.
  std::vector<size_t> next_of_key(static_cast<size_t>(trace.shape.keys()), kNever);
  std::vector<std::vector<size_t>> next_use(trace.events.size());
  for (size_t i = trace.events.size(); i-- > 0;) {
    for (const int32_t id : trace.events[i].ids) {
      const auto key = static_cast<size_t>(KeyOf(trace.shape, trace.events[i], id));
      next_use[i].push_back(std::exchange(next_of_key[key], i));
    }
  }
  std::set<std::pair<size_t, int32_t>> resident;  // event of the next use, key
  SimulatedHits result;
  for (size_t i = 0; i < trace.events.size(); ++i) {
    const RoutingEvent& event = trace.events[i];
    // What this event asks for comes out, so that it cannot be evicted for another of its own.
    for (const int32_t id : event.ids) {
      const int32_t key = KeyOf(trace.shape, event, id);
      ++result.requests;
      result.hits += static_cast<int64_t>(resident.erase({i, key}));
    }
    while (resident.size() + event.ids.size() > static_cast<size_t>(capacity)) {
      resident.erase(std::prev(resident.end()));
    }
    for (size_t j = 0; j < event.ids.size(); ++j) {
      resident.insert({next_use[i][j], KeyOf(trace.shape, event, event.ids[j])});
    }
  }
  return result;
}

RoutingTrace MakeSyntheticTrace(const SyntheticRouting& routing) {
  std::mt19937_64 random(routing.seed);
  std::uniform_real_distribution<double> uniform(0, 1);
  const experts::CacheShape shape = routing.shape;
  RoutingTrace trace = {shape, {}};
  const auto experts = static_cast<size_t>(shape.experts);
  std::vector<std::vector<double>> weights(static_cast<size_t>(shape.layers));
  for (std::vector<double>& of_layer : weights) {
    for (size_t rank = 0; rank < experts; ++rank) {
      of_layer.push_back(std::pow(static_cast<double>(rank + 1), -routing.skew));
    }
    std::shuffle(of_layer.begin(), of_layer.end(), random);
  }
  std::vector<std::vector<int32_t>> before(static_cast<size_t>(shape.layers));
  for (int32_t step = 0; step < routing.steps; ++step) {
    for (int32_t layer = 0; layer < shape.layers; ++layer) {
      std::vector<double>& of_layer = weights[static_cast<size_t>(layer)];
      if (routing.drift_steps > 0 && uniform(random) < 1 / routing.drift_steps) {
        std::swap(of_layer[random() % experts], of_layer[random() % experts]);
      }
      std::set<int32_t> chosen;
      for (const int32_t id : before[static_cast<size_t>(layer)]) {
        if (uniform(random) < routing.repeat) {
          chosen.insert(id);
        }
      }
      std::discrete_distribution<int32_t> choose(of_layer.begin(), of_layer.end());
      while (chosen.size() < static_cast<size_t>(routing.top_k)) {
        chosen.insert(choose(random));
      }
      before[static_cast<size_t>(layer)].assign(chosen.begin(), chosen.end());
      trace.events.push_back(
          {static_cast<uint32_t>(step), layer, before[static_cast<size_t>(layer)]});
    }
  }
  return trace;
}

}  // namespace mach::testing_support
