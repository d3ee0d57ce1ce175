#include "experts/cache_policy.h"

#include <algorithm>
#include <random>
#include <set>

#include <gtest/gtest.h>

#include "base/error.h"
#include "experts/frequency.h"
#include "experts/key_heap.h"

namespace mach::experts {
namespace {

constexpr CacheShape kShape = {2, 4};
const auto kAny = [](int32_t) { return true; };

void UseAll(CachePolicy& policy, std::initializer_list<int32_t> keys) {
  int32_t layer = -1;
  for (const int32_t key : keys) {
    if (key / kShape.experts != layer) {
      layer = key / kShape.experts;
      policy.BeginLayer(layer, 1);
    }
    policy.Use(key, 1);
  }
}

TEST(CachePolicy, LruGivesUpWhatWasNotUsedForLongest) {
  const auto policy = MakeCachePolicy("lru", kShape);
  EXPECT_EQ(policy->Victim(kAny), -1);
  for (const int32_t key : {0, 1, 2, 5}) {
    policy->Insert(key);
  }
  UseAll(*policy, {0, 2});
  EXPECT_EQ(policy->Victim(kAny), 1);
  EXPECT_EQ(policy->Victim([](int32_t key) { return key != 1; }), 5);
  policy->Erase(1);
  EXPECT_EQ(policy->Victim(kAny), 5);
  UseAll(*policy, {5});
  EXPECT_EQ(policy->Victim(kAny), 0);
}

TEST(CachePolicy, LfuGivesUpWhatWasUsedLeastAndForgets) {
  const auto policy = MakeCachePolicy("lfu", kShape);
  UseAll(*policy, {0, 5, 0, 5, 0, 1});
  for (const int32_t key : {0, 1, 5}) {
    policy->Insert(key);
  }
  EXPECT_EQ(policy->Victim(kAny), 1);
  EXPECT_EQ(policy->Victim([](int32_t key) { return key != 1; }), 5);
  EXPECT_TRUE(policy->WorthEvicting(1, 2));
  EXPECT_FALSE(policy->WorthEvicting(0, 2));
  for (int i = 0; i < 4000; ++i) {
    policy->BeginLayer(0, 1);
  }
  UseAll(*policy, {1});
  EXPECT_EQ(policy->Victim(kAny), 5);
  policy->Erase(5);
  EXPECT_EQ(policy->Victim(kAny), 0);  // three uses long ago are worth less than one now
}

TEST(CachePolicy, NextUseKnowsTheCycleOfLayers) {
  const auto policy = MakeCachePolicy("next_use", kShape);
  for (int i = 0; i < 1000; ++i) {
    UseAll(*policy, {0, 4});
  }
  policy->Insert(0);
  policy->Insert(4);
  // Both are used by every token. After layer 1 the expert of layer 0 is needed first.
  EXPECT_EQ(policy->Victim(kAny), 4);
  policy->BeginLayer(0, 1);
  EXPECT_EQ(policy->Victim(kAny), 0);
  policy->Insert(5);  // never used
  EXPECT_EQ(policy->Victim(kAny), 5);
  EXPECT_EQ(policy->Victim([](int32_t) { return false; }), -1);
  EXPECT_FALSE(policy->WorthEvicting(4, 6));
  EXPECT_TRUE(policy->WorthEvicting(5, 6));
}

TEST(CachePolicy, SeedsOrderWhatWasNotUsedYet) {
  for (const char* name : {"lfu", "next_use"}) {
    const auto policy = MakeCachePolicy(name, kShape);
    for (const int32_t key : {0, 1, 2}) {
      policy->Insert(key);
    }
    policy->Seed(0, 0.5);
    policy->Seed(1, 0.1);
    policy->Seed(2, 0.7);
    EXPECT_EQ(policy->Victim(kAny), 1) << name;
  }
}

TEST(CachePolicy, UnknownNamesAreRefusedWithTheChoices) {
  try {
    MakeCachePolicy("fifo", kShape);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    for (const std::string& name : CachePolicyNames()) {
      EXPECT_NE(error.Describe().find(name), std::string::npos);
      EXPECT_EQ(MakeCachePolicy(name, kShape)->name(), name);
    }
  }
}

TEST(DecayedFrequency, KeepsItsOrderOverAMillionSteps) {
  DecayedFrequency frequency(3, 10);
  for (int i = 0; i < 1000000; ++i) {
    frequency.BeginStep(1);
    frequency.Add(0, 1);
    if (i % 2 == 0) {
      frequency.Add(1, 1);
    }
  }
  EXPECT_NEAR(frequency.Rate(0), 1.0, 1e-6);
  EXPECT_NEAR(frequency.Rate(1), 0.5, 0.05);
  EXPECT_EQ(frequency.Rate(2), 0.0);
  frequency.SetRate(2, 0.75);
  EXPECT_NEAR(frequency.Rate(2), 0.75, 1e-9);
  for (int i = 0; i < 10; ++i) {
    frequency.BeginStep(1);
  }
  EXPECT_NEAR(frequency.Rate(2), 0.375, 1e-6);
}

TEST(DecayedFrequency, RatesAreSharesOfTokensWhateverAStepHas) {
  DecayedFrequency frequency(3, 32);
  std::mt19937 random(2);
  for (int i = 0; i < 1000; ++i) {
    const auto tokens = static_cast<int64_t>(4 * (1 + random() % 10));
    frequency.BeginStep(tokens);
    frequency.Add(0, tokens);
    frequency.Add(1, tokens / 4);
  }
  EXPECT_NEAR(frequency.Rate(0), 1.0, 1e-6);
  EXPECT_NEAR(frequency.Rate(1), 0.25, 1e-6);
  // One step of the half-life: what was, counts half.
  frequency.BeginStep(32);
  EXPECT_NEAR(frequency.Rate(0), 0.5, 1e-6);
  // Huge steps do not overflow.
  frequency.BeginStep(1000000);
  frequency.Add(2, 1000000);
  EXPECT_NEAR(frequency.Rate(2), 1.0, 1e-6);
  EXPECT_NEAR(frequency.Rate(0), 0.0, 1e-6);
}

TEST(CachePolicy, ABatchIsWorthItsRows) {
  for (const char* name : {"lfu", "next_use"}) {
    const auto policy = MakeCachePolicy(name, kShape);
    policy->Insert(0);
    policy->Insert(1);
    policy->BeginLayer(0, 8);
    policy->Use(0, 2);
    policy->Use(1, 7);
    EXPECT_EQ(policy->Victim(kAny), 0) << name;
    // One use more by single tokens, then a batch that all use the other.
    for (int i = 0; i < 8; ++i) {
      policy->BeginLayer(0, 1);
      policy->Use(0, 1);
    }
    EXPECT_EQ(policy->Victim(kAny), 1) << name;
    policy->BeginLayer(0, 16);
    policy->Use(1, 16);
    EXPECT_EQ(policy->Victim(kAny), 0) << name;
  }
}

TEST(KeyHeap, AgreesWithASortedSet) {
  std::mt19937 random(3);
  std::vector<int> scores(50, 0);
  const auto score = [&scores](int32_t key) { return scores[static_cast<size_t>(key)]; };
  KeyHeap heap(50, score);
  std::set<int32_t> in;
  for (int i = 0; i < 20000; ++i) {
    const auto key = static_cast<int32_t>(random() % 50);
    if (!in.contains(key)) {
      scores[static_cast<size_t>(key)] = static_cast<int>(random() % 20);
      heap.Insert(key);
      in.insert(key);
    } else if (random() % 2 == 0) {
      heap.Erase(key);
      in.erase(key);
    } else {
      scores[static_cast<size_t>(key)] = static_cast<int>(random() % 20);
      heap.Update(key);
    }
    const uint32_t refused = random() % 7;
    const auto admit = [refused](int32_t candidate) {
      return static_cast<uint32_t>(candidate) % 7 != refused;
    };
    int32_t expected = -1;
    for (const int32_t candidate : in) {
      if (admit(candidate) && (expected < 0 || score(candidate) < score(expected))) {
        expected = candidate;
      }
    }
    ASSERT_EQ(heap.Smallest(admit), expected);
  }
}

}  // namespace
}  // namespace mach::experts
