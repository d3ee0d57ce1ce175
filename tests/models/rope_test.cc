// What configurations say about rotary scaling, in all the places where they say it.
#include "models/rope.h"

#include <cmath>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace mach::models {
namespace {

constexpr int32_t kHeadDim = 32;

formats::ConfigReader Config(const std::string& fields) {
  return formats::ConfigReader::Parse("{" + fields + "}", "config.json");
}

std::vector<double> Frequencies(const std::string& fields) {
  return ReadRope(Config(fields), kHeadDim, 1.0).inv_freq;
}

int64_t MaxContext(const std::string& fields) {
  return ReadMaxContext(Config(R"("max_position_embeddings":4096,)" + fields));
}

TEST(MaxContext, PlainRotationKeepsWhatTheConfigurationSays) {
  EXPECT_EQ(MaxContext(R"("rope_theta":10000)"), 4096);
  EXPECT_EQ(MaxContext(R"("rope_scaling":null)"), 4096);
  EXPECT_EQ(MaxContext(R"("rope_parameters":{"rope_type":"default","rope_theta":1e6})"), 4096);
  EXPECT_EQ(ReadMaxContext(Config("")), 2048);
}

TEST(MaxContext, LinearScalingMultipliesThePositions) {
  EXPECT_EQ(MaxContext(R"("rope_scaling":{"type":"linear","factor":4})"), 16384);
  EXPECT_EQ(MaxContext(R"("rope_parameters":{"rope_type":"linear","factor":2.5})"), 10240);
}

TEST(MaxContext, YarnMultipliesTheOriginalLength) {
  const std::string yarn = R"("rope_type":"yarn","factor":4)";
  EXPECT_EQ(MaxContext(R"("rope_scaling":{)" + yarn + "}"), 16384);
  EXPECT_EQ(
      MaxContext(R"("rope_scaling":{)" + yarn + R"(,"original_max_position_embeddings":3072})"),
      12288);
  // A configuration that gives the extended length already.
  EXPECT_EQ(
      MaxContext(R"("rope_parameters":{)" + yarn + R"(,"original_max_position_embeddings":1024})"),
      4096);
  EXPECT_EQ(MaxContext(R"("original_max_position_embeddings":2048,"rope_scaling":{)" + yarn + "}"),
            8192);
}

TEST(MaxContext, Llama3IsExtendedAlready) {
  const auto llama3 = [](const char* original) {
    return MaxContext(R"("rope_scaling":{"rope_type":"llama3","factor":32,"low_freq_factor":1,
                      "high_freq_factor":4,"original_max_position_embeddings":)" +
                      std::string(original) + "}");
  };
  EXPECT_EQ(llama3("512"), 4096);
  EXPECT_EQ(llama3("4096"), 131072);  // as if the field had been added by hand
}

TEST(Rope, OfBothFieldsTheOlderHolds) {
  const std::string theta = R"("rope_theta":500000)";
  const std::string linear = R"("rope_scaling":{"type":"linear","factor":4})";
  const std::string plain = R"("rope_parameters":{"rope_type":"default",)" + theta + "}";
  const std::vector<double> scaled = Frequencies(theta + "," + linear);
  EXPECT_EQ(Frequencies(linear + "," + plain), scaled);
  EXPECT_EQ(Frequencies(theta + "," + linear + "," + plain), scaled);
  EXPECT_EQ(MaxContext(linear + "," + plain), 16384);
  // One that says nothing hides nothing.
  EXPECT_EQ(Frequencies(R"("rope_scaling":{},)" + plain), Frequencies(theta));
}

TEST(Rope, YarnWithoutAnyLengthTakesTheDefaultOne) {
  const std::string yarn = R"("rope_scaling":{"type":"yarn","factor":4})";
  EXPECT_EQ(Frequencies(yarn), Frequencies(R"("max_position_embeddings":2048,)" + yarn));
  EXPECT_THAT(Frequencies(yarn), testing::Each(testing::Gt(0.0)));
}

TEST(Rope, UnknownTypesAreNamed) {
  try {
    (void)Frequencies(R"("rope_scaling":{"type":"longrope"})");
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("rope_scaling.type is \"longrope\""));
  }
}

}  // namespace
}  // namespace mach::models
