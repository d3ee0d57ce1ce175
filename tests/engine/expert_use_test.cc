#include "engine/expert_use.h"

#include <gtest/gtest.h>

namespace mach::engine {
namespace {

using backend::ExpertUse;

TEST(ExpertUse, OfAChunkDependsOnItsLengthAndOnWhatComesNext) {
  EXPECT_EQ(ExpertUseOfChunk(1, 0), ExpertUse::kDecode);
  EXPECT_EQ(ExpertUseOfChunk(kLongChunkTokens - 1, 512), ExpertUse::kDecode);
  EXPECT_EQ(ExpertUseOfChunk(kLongChunkTokens, 0), ExpertUse::kPrefill);
  EXPECT_EQ(ExpertUseOfChunk(512, 512), ExpertUse::kPrefillMore);
  // A short one reads through the bank, so what was read ahead for it would be in vain.
  EXPECT_EQ(ExpertUseOfChunk(512, kLongChunkTokens - 1), ExpertUse::kPrefill);
  EXPECT_EQ(ExpertUseOfChunk(512, kLongChunkTokens), ExpertUse::kPrefillMore);
}

}  // namespace
}  // namespace mach::engine
