#include "formats/config.h"

#include <functional>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/formats/test_files.h"

namespace mach::formats {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

ConfigReader Sample() {
  return ConfigReader::Parse(R"({
    "hidden_size": 576, "eps": 1e-5, "whole": 7.0, "half": 0.5, "huge": 18446744073709551615,
    "none": null, "flag": true, "name": "llama", "ids": [1, 2], "bad_ids": [1, "x"],
    "text_config": {"heads": 9, "rope": {"type": "llama3"}}})",
                             "config.json");
}

TEST(ConfigReader, ReadsTypedFields) {
  const ConfigReader config = Sample();
  EXPECT_EQ(config.RequireInt("hidden_size", 1, 1000), 576);
  EXPECT_EQ(config.RequireInt("whole"), 7);
  EXPECT_DOUBLE_EQ(config.RequireFloat("eps"), 1e-5);
  EXPECT_DOUBLE_EQ(config.RequireFloat("hidden_size"), 576.0);
  EXPECT_TRUE(config.RequireBool("flag"));
  EXPECT_EQ(config.RequireString("name"), "llama");
  EXPECT_EQ(config.IntOr("absent", 3), 3);
  EXPECT_EQ(config.OptionalInt("none"), std::nullopt);
  EXPECT_FALSE(config.Has("none"));
  EXPECT_THAT(*config.OptionalIntArray("ids"), ElementsAre(1, 2));
  EXPECT_THAT(*config.OptionalIntOrArray("hidden_size"), ElementsAre(576));
  const ConfigReader text = config.RequireObject("text_config");
  EXPECT_EQ(text.RequireInt("heads"), 9);
  EXPECT_EQ(text.RequireObject("rope").RequireString("type"), "llama3");
}

TEST(ConfigReader, ErrorsNameFileFieldValueAndExpectation) {
  const ConfigReader config = Sample();
  EXPECT_EQ(ErrorOf([&] { (void)config.RequireInt("hidden_size", 1, 512); }),
            "config.json: hidden_size is 576, expected an integer from 1 to 512");
  EXPECT_EQ(ErrorOf([&] { (void)config.RequireInt("half"); }),
            "config.json: half is 0.5, expected an integer");
  EXPECT_EQ(ErrorOf([&] { (void)config.RequireInt("huge", 0); }),
            "config.json: huge is 18446744073709551615, expected an integer of at least 0");
  EXPECT_EQ(ErrorOf([&] { (void)config.RequireObject("text_config").RequireBool("heads"); }),
            "config.json: text_config.heads is 9, expected true or false");
  EXPECT_EQ(ErrorOf([&] {
              (void)config.RequireObject("text_config").RequireObject("rope").RequireInt("factor");
            }),
            "config.json: text_config.rope.factor is missing, expected an integer");
  EXPECT_THAT(ErrorOf([&] { (void)config.OptionalIntArray("bad_ids"); }),
              HasSubstr("bad_ids is [1,\"x\"], expected an array"));
  EXPECT_THAT(ErrorOf([&] { (void)config.OptionalIntArray("hidden_size"); }),
              HasSubstr("hidden_size is 576, expected an array"));
  EXPECT_THAT(ErrorOf([&] { (void)config.OptionalString("flag"); }), HasSubstr("flag is true"));
  EXPECT_THAT(ErrorOf([&] { (void)config.OptionalFloat("name"); }), HasSubstr("\"llama\""));
}

// What a file says is never the caller's mistake.
TEST(ConfigReader, ErrorsSayThatTheFileIsBroken) {
  const ConfigReader config = Sample();
  for (const std::function<void()>& read :
       std::vector<std::function<void()>>{[&] { (void)config.RequireInt("hidden_size", 1, 512); },
                                          [&] { (void)config.RequireInt("absent"); },
                                          [&] { (void)config.RequireObjects("ids"); }}) {
    try {
      read();
      ADD_FAILURE() << "it was not refused";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kCorruptFile) << error.what();
    }
  }
}

TEST(ConfigReader, RefusesWhatIsNoJsonObject) {
  for (const char* text : {"", "[1]", "{\"a\":1e999}", "{\"a\":NaN}", "{\"a\"", "{} x", "\xff"}) {
    EXPECT_THROW(ConfigReader::Parse(text, "c"), Error) << text;
  }
  EXPECT_THAT(ErrorOf([] { ConfigReader::Parse(std::string(100000, '['), "c"); }),
              HasSubstr("nested deeper"));
}

}  // namespace
}  // namespace mach::formats
