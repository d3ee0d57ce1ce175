#include <string>

#include <gtest/gtest.h>

#include "base/error.h"
#include "experts/expert_store.h"
#include "experts/heat_file.h"
#include "platform/file.h"
#include "tests/support/acquire.h"
#include "tests/support/test_sidecar.h"

namespace mach::experts {
namespace {

using testing_support::Acquire;
using testing_support::TestSidecar;

void Use(ExpertStore& store, int32_t layer, const std::vector<int32_t>& ids) {
  const auto lease = Acquire(store, layer, ids, backend::ExpertUse::kDecode);
  while (!lease->Next(nullptr).empty()) {
  }
}

class Heat : public testing::Test {
 protected:
  Heat() {
    options_.bank_bytes = 6 * 16384;
    options_.top_k = 2;
    options_.read.allow_buffered = true;
    options_.heat_file = sidecar_.value().dir / "heat.bin";
  }
  std::unique_ptr<ExpertStore> Make(const std::function<void(uint64_t)>& progress = {}) {
    return MakeStreamedStore(sidecar_.value(), options_, budget_, progress);
  }

  TestSidecar sidecar_{3, 16};
  MemoryBudget budget_;
  StreamOptions options_;
};

// A step of several tokens counts as several: the shares of tokens are those of single steps.
TEST_F(Heat, ABatchCountsByItsRows) {
  const auto rates = [this](int steps, int64_t tokens, const std::vector<int32_t>& rows) {
    std::filesystem::remove(options_.heat_file);
    const auto store = Make();
    for (int i = 0; i < steps; ++i) {
      std::vector<backend::WantedExpert> wanted;
      for (int32_t id = 0; id < static_cast<int32_t>(rows.size()); ++id) {
        wanted.push_back({id, rows[static_cast<size_t>(id)]});
      }
      store->Acquire(1, wanted, tokens, backend::ExpertUse::kDecode);
    }
    store->SaveHeat();
    return LoadHeat(options_.heat_file, sidecar_.value()).value();
  };
  const std::vector<float> single = rates(4000, 1, {1});
  const std::vector<float> batched = rates(250, 16, {16, 4});
  EXPECT_NEAR(single[0], 0.49, 0.01);  // half of what a long time would give
  EXPECT_NEAR(batched[0], single[0], 1e-5);
  EXPECT_NEAR(batched[1], single[0] / 4, 1e-5);
}

TEST_F(Heat, ARestartHasTheHottestExperts) {
  for (const char* policy : {"lru", "lfu", "next_use"}) {
    options_.policy = policy;
    std::filesystem::remove(options_.heat_file);
    {
      const auto store = Make();
      EXPECT_EQ(store->Stats().experts_resident, 0);
      for (int32_t i = 0; i < 10; ++i) {
        Use(*store, 1, {4, 5});
        Use(*store, 2, {6, 7});
        Use(*store, 3, {i, i + 1});
      }
      store->SaveHeat();
    }
    uint64_t progress = 0;
    const auto store = Make([&](uint64_t bytes) { progress = bytes; });
    EXPECT_EQ(progress, 6U * 16384);
    EXPECT_EQ(store->Stats().experts_resident, 6);
    Use(*store, 1, {4, 5});
    Use(*store, 2, {6, 7});
    EXPECT_EQ(store->Stats().hits, 4);
    EXPECT_EQ(store->Stats().misses, 0);
  }
}

TEST_F(Heat, ARecordThatCannotBeHadEndsTheStart) {
  {
    const auto store = Make();
    Use(*store, 2, {4, 5});
    store->SaveHeat();
  }
  sidecar_.value().moe_layers[1].xxh3_128[5] = std::string(32, '0');
  try {
    Make();
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCorruptFile);
    EXPECT_NE(error.Describe().find("layer_2.bin: expert 5"), std::string::npos);
  }
  EXPECT_EQ(budget_.TotalBytes(), 0U);
}

TEST_F(Heat, WhatIsCorruptOrForeignIsIgnored) {
  Use(*Make(), 1, {1, 2});
  EXPECT_FALSE(std::filesystem::exists(options_.heat_file));
  {
    const auto store = Make();
    Use(*store, 1, {1, 2});
    store->SaveHeat();
  }
  const std::string good = ReadWholeFile(options_.heat_file);
  ASSERT_TRUE(LoadHeat(options_.heat_file, sidecar_.value()));
  for (size_t at = 0; at < good.size(); at += 5) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 0x40);
    WriteFileAtomically(options_.heat_file, bad);
    EXPECT_FALSE(LoadHeat(options_.heat_file, sidecar_.value())) << at;
  }
  for (const size_t size : {size_t{0}, size_t{7}, size_t{20}, good.size() - 1}) {
    WriteFileAtomically(options_.heat_file, good.substr(0, size));
    EXPECT_FALSE(LoadHeat(options_.heat_file, sidecar_.value())) << size;
    EXPECT_EQ(Make()->Stats().experts_resident, 0);
  }
  WriteFileAtomically(options_.heat_file, good + "x");
  EXPECT_FALSE(LoadHeat(options_.heat_file, sidecar_.value()));
  WriteFileAtomically(options_.heat_file, good);
  sidecar_.value().source_fingerprint = "another";
  EXPECT_FALSE(LoadHeat(options_.heat_file, sidecar_.value()));
  EXPECT_FALSE(LoadHeat(sidecar_.value().dir, sidecar_.value()));  // a directory
}

TEST_F(Heat, AStartWithoutUseLeavesTheFileAlone) {
  {
    const auto store = Make();
    store->SaveHeat();
    EXPECT_FALSE(std::filesystem::exists(options_.heat_file));
    Use(*store, 1, {1, 2});
    store->SaveHeat();
  }
  const std::string saved = ReadWholeFile(options_.heat_file);
  for (int start = 0; start < 2; ++start) {
    const auto store = Make();
    EXPECT_EQ(store->Stats().experts_resident, 2);
    store->SaveHeat();
    EXPECT_TRUE(ReadWholeFile(options_.heat_file) == saved);
  }
  const auto store = Make();
  Use(*store, 1, {1, 2});
  store->SaveHeat();
  EXPECT_FALSE(ReadWholeFile(options_.heat_file) == saved);
}

TEST_F(Heat, AStartRemovesWhatAKilledServerWasWriting) {
  const std::filesystem::path partial = options_.heat_file.string() + ".tmp-4711";
  WriteFileAtomically(partial, "MACH");
  Make();
  EXPECT_FALSE(std::filesystem::exists(partial));
}

TEST_F(Heat, AFailureToSaveIsNoError) {
  options_.heat_file = sidecar_.value().dir / "missing" / "heat.bin";
  const auto store = Make();
  Use(*store, 1, {1, 2});
  store->SaveHeat();
  // What was used is saved as soon as that is possible.
  std::filesystem::create_directory(options_.heat_file.parent_path());
  store->SaveHeat();
  EXPECT_TRUE(LoadHeat(options_.heat_file, sidecar_.value()));
}

}  // namespace
}  // namespace mach::experts
