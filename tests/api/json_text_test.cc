#include "api/json_text.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "api/errors.h"

namespace mach::api {
namespace {

std::string RejectionOf(std::string_view text) {
  try {
    ParseJson(text);
  } catch (const RequestError& e) {
    EXPECT_EQ(e.info().status, 400);
    EXPECT_LT(e.info().message.size(), 300U);
    return e.info().message;
  }
  return "";
}

TEST(ParseJson, KeepsKeyOrder) {
  EXPECT_EQ(ParseJson(R"({"b":1,"a":[1,2.5,"x",null,true]})").dump(),
            R"({"b":1,"a":[1,2.5,"x",null,true]})");
}

TEST(ParseJson, RefusesWhatIsNotJson) {
  EXPECT_EQ(RejectionOf(""), "The request body is empty.");
  EXPECT_EQ(RejectionOf(" \n"), "The request body is empty.");
  for (const char* cut : {"{\"a\":", "{\"a", "[1,2", "{\"a\":tr", "\"\\u12"}) {
    EXPECT_NE(RejectionOf(cut).find("ends too early"), std::string::npos) << cut;
  }
  EXPECT_NE(RejectionOf("{\"a\":x}").find("error at byte 6 of 7"), std::string::npos);
  EXPECT_NE(RejectionOf("{} x"), "");
  EXPECT_NE(RejectionOf("\"\xFF\""), "");
  EXPECT_NE(RejectionOf("[1e999]").find("out of range"), std::string::npos);
  EXPECT_NE(RejectionOf("\"" + std::string(1 << 20, 'a')), "");
}

TEST(ParseJson, ReadsLoneSurrogatesAsReplacementCharacters) {
  const auto read = [](const char* json) { return ParseJson(json).get<std::string>(); };
  EXPECT_EQ(read(R"("a\ud83d")"), "a\uFFFD");
  EXPECT_EQ(read(R"("\uDE00z")"), "\uFFFDz");
  EXPECT_EQ(read(R"("\ud83d\ud83d\ude00\ude00")"), "\uFFFD\U0001F600\uFFFD");
  EXPECT_EQ(read(R"("\ud83d\n\\ud83d")"), "\uFFFD\n\\ud83d");
  EXPECT_EQ(RejectionOf(R"(["\ud83d",x])"),
            "The request body is not valid JSON in UTF-8: error at byte 11 of 12.");
}

TEST(ParseJson, BoundsDepthValuesAndMembers) {
  EXPECT_NE(RejectionOf(std::string(100000, '[')).find("nested deeper"), std::string::npos);
  EXPECT_EQ(RejectionOf("[\"" + std::string(1000, '[') + "\"]"), "");
  std::string members = "{\"k\":0";
  for (int i = 0; i < 5000; ++i) {
    members += ",\"" + std::to_string(i) + "\":0";
  }
  EXPECT_NE(RejectionOf(members + "}").find("members"), std::string::npos);
  JsonLimits limits;
  limits.max_values = 10;
  EXPECT_NO_THROW(ParseJson("[1,2,3,4,5,6,7,8]", limits));
  EXPECT_THROW(ParseJson("[1,2,3,4,5,6,7,8,9,10,11]", limits), RequestError);
}

}  // namespace
}  // namespace mach::api
