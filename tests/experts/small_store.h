// A small streamed store over a test sidecar, and how tests use it up.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "experts/expert_store.h"
#include "tests/support/acquire.h"
#include "tests/support/test_sidecar.h"

namespace mach::experts {

inline constexpr int32_t kLayers = 4;
inline constexpr int32_t kExperts = 32;
inline constexpr int32_t kTopK = 4;
inline constexpr uint64_t kRecordBytes = 16384;

inline StreamOptions OptionsFor(int64_t bank_records) {
  StreamOptions options;
  options.bank_bytes = static_cast<uint64_t>(bank_records) * kRecordBytes;
  options.top_k = kTopK;
  options.read.allow_buffered = true;  // the temporary directory may be in memory
  options.read.queue_depth = 4;
  return options;
}

inline std::unique_ptr<ExpertStore> Make(testing_support::TestSidecar& sidecar,
                                         const StreamOptions& options, MemoryBudget& budget) {
  return MakeStreamedStore(sidecar.value(), options, budget, {});
}

inline std::vector<int32_t> AllExperts() {
  std::vector<int32_t> ids(kExperts);
  std::iota(ids.begin(), ids.end(), 0);
  return ids;
}

inline std::vector<int32_t> RandomIds(std::mt19937& random, int32_t count) {
  std::vector<int32_t> ids = AllExperts();
  std::shuffle(ids.begin(), ids.end(), random);
  ids.resize(static_cast<size_t>(count));
  std::sort(ids.begin(), ids.end());
  return ids;
}

// Takes everything from a lease and checks that each record comes once and has the right bytes.
inline void Drain(const testing_support::TestSidecar& sidecar, backend::ExpertLease& lease,
                  int32_t layer, const std::vector<int32_t>& ids, backend::ExpertUse use) {
  std::vector<int32_t> seen;
  for (auto ready = lease.Next(nullptr); !ready.empty(); ready = lease.Next(nullptr)) {
    for (const backend::ReadyExpert& expert : ready) {
      ASSERT_TRUE(sidecar.Matches(layer, expert.id, expert.record));
      seen.push_back(expert.id);
    }
  }
  EXPECT_TRUE(lease.Next(nullptr).empty());
  if (use == backend::ExpertUse::kDecode) {
    EXPECT_THAT(seen, testing::UnorderedElementsAreArray(ids));
  } else {
    EXPECT_EQ(seen, ids);
  }
}

inline void Use(const testing_support::TestSidecar& sidecar, ExpertStore& store, int32_t layer,
                const std::vector<int32_t>& ids,
                backend::ExpertUse use = backend::ExpertUse::kDecode) {
  const auto lease = testing_support::Acquire(store, layer, ids, use);
  Drain(sidecar, *lease, layer, ids, use);
}

}  // namespace mach::experts
