// Cost of one layer's experts when all are in memory: Acquire, Next until empty, release; 8 of 256
// experts, 40 layers in turn. For the resident store and for streamed stores whose bank holds
// everything. Nothing is computed, so this is overhead alone.
// usage: expert_acquire_bench DIR

#include <algorithm>
#include <cstdio>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "base/clock.h"
#include "bench/expert_files.h"
#include "experts/cache_policy.h"
#include "experts/expert_store.h"
#include "tests/support/acquire.h"

namespace mach::bench {
namespace {

using testing_support::Acquire;

constexpr int32_t kLayers = 40;
constexpr int32_t kExperts = 256;
constexpr int32_t kTopK = 8;
constexpr int kRounds = 9;
constexpr int kTokens = 200;

int Run(const std::filesystem::path& dir) {
  const ExpertFiles files(dir, kLayers, kExperts, 16384);
  MemoryBudget budget;
  struct Candidate {
    std::string name;
    std::unique_ptr<experts::ExpertStore> store;
    std::vector<double> us;
  };
  std::vector<Candidate> candidates;
  candidates.push_back({"resident", experts::MakeResidentStore(files.sidecar(), budget, {}), {}});
  for (const std::string& policy : experts::CachePolicyNames()) {
    experts::StreamOptions options;
    options.bank_bytes = files.sidecar().TotalBytes();
    options.top_k = kTopK;
    options.policy = policy;
    candidates.push_back({policy, MakeStreamedStore(files.sidecar(), options, budget, {}), {}});
    std::vector<int32_t> all(kExperts);
    std::iota(all.begin(), all.end(), 0);
    for (int32_t layer = 0; layer < kLayers; ++layer) {
      const auto lease = Acquire(*candidates.back().store, layer, all, backend::ExpertUse::kDecode);
      while (!lease->Next(nullptr).empty()) {
      }
    }
  }
  std::mt19937 random(1);
  std::vector<std::vector<int32_t>> routing;
  for (int32_t i = 0; i < kTokens * kLayers; ++i) {
    std::vector<int32_t> ids;
    while (ids.size() < kTopK) {
      const auto id = static_cast<int32_t>(random() % kExperts);
      if (std::find(ids.begin(), ids.end(), id) == ids.end()) {
        ids.push_back(id);
      }
    }
    std::sort(ids.begin(), ids.end());
    routing.push_back(std::move(ids));
  }
  for (int round = 0; round < kRounds; ++round) {
    for (Candidate& candidate : candidates) {
      const Stopwatch watch;
      for (size_t i = 0; i < routing.size(); ++i) {
        const auto lease = Acquire(*candidate.store, static_cast<int32_t>(i) % kLayers, routing[i],
                                   backend::ExpertUse::kDecode);
        while (!lease->Next(nullptr).empty()) {
        }
      }
      candidate.us.push_back(watch.ElapsedSeconds() * 1e6 / static_cast<double>(routing.size()));
    }
  }
  for (const Candidate& candidate : candidates) {
    std::printf("%-9s %6.2f us a layer, %5.1f us a token\n", candidate.name.c_str(),
                Median(candidate.us), Median(candidate.us) * kLayers);
  }
  return 0;
}

}  // namespace
}  // namespace mach::bench

int main(int argc, char** argv) {
  if (argc != 2 || argv[1][0] == '-') {
    std::fprintf(stderr, "usage: expert_acquire_bench DIR\n");
    return 2;
  }
  try {
    return mach::bench::Run(argv[1]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "expert_acquire_bench: %s\n", error.what());
    return 1;
  }
}
