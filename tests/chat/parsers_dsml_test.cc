// DSML.
#include <gtest/gtest.h>

#include "tests/chat/parsers_support.h"

namespace mach::chat {
namespace {

ParseCase Case(CallFormat format, EndReason ended = EndReason::kStop) {
  ParseCase options;
  options.format = format;
  options.tools = &TestTools();
  options.ended = ended;
  return options;
}

const std::string kOpen = "<｜DSML｜tool_calls>\n";
const std::string kClose = "\n</｜DSML｜tool_calls>";

std::string Invoke(const std::string& name, const std::string& body) {
  return "<｜DSML｜invoke name=\"" + name + "\">\n" + body + "\n</｜DSML｜invoke>";
}

std::string Param(const std::string& name, const std::string& string, const std::string& value) {
  return "<｜DSML｜parameter name=\"" + name + "\" string=\"" + string + "\">" + value +
         "</｜DSML｜parameter>";
}

std::string Dsml(std::string_view text, EndReason ended = EndReason::kStop) {
  return Describe(ParseChecked(Case(CallFormat::kDeepseekV4, ended), text).message);
}

TEST(Dsml, Calls) {
  EXPECT_EQ(Dsml("Hi\n\n" + kOpen +
                 Invoke("run", Param("cmd", "true", "\n ls \n") + "\n" + Param("n", "false", "3")) +
                 "\n" + Invoke("bare", "") + kClose + "\nBye"),
            R"(content=Hi)"
            "\n\n\n"
            R"(Bye reasoning= call=run{"cmd": "\n ls \n", "n": 3} call=bare{})");
}

TEST(Dsml, WrapperDecides) {
  const std::string v32 =
      "<｜DSML｜function_calls>\n" + Invoke("bare", "") + "\n</｜DSML｜function_calls>";
  EXPECT_EQ(Describe(ParseChecked(Case(CallFormat::kDeepseekV32), v32).message),
            "content= reasoning= call=bare{}");
  EXPECT_EQ(Dsml(v32), "content=" + v32 + " reasoning=");
}

TEST(Dsml, Typing) {
  const auto typed = [](const std::string& key, const std::string& string,
                        const std::string& value) {
    const std::string result = Dsml(kOpen + Invoke("typed", Param(key, string, value)) + kClose);
    const std::string prefix = "content= reasoning= call=typed{\"" + key + "\": ";
    EXPECT_TRUE(result.starts_with(prefix)) << result;
    return result.substr(prefix.size(), result.size() - prefix.size() - 1);
  };
  EXPECT_EQ(typed("s", "true", "42"), R"("42")");
  EXPECT_EQ(typed("s", "false", "42"), R"("42")");
  EXPECT_EQ(typed("s", "false", "\"quoted\""), R"("quoted")");
  EXPECT_EQ(typed("s", "false", "raw text"), R"("raw text")");
  EXPECT_EQ(typed("i", "true", "42"), "42");
  EXPECT_EQ(typed("i", "false", "\"42\""), "42");
  EXPECT_EQ(typed("unknown", "false", "[1,2]"), "[1, 2]");
  EXPECT_EQ(typed("unknown", "false", "nope"), R"("nope")");
  EXPECT_EQ(typed("unknown", "true", "[1,2]"), R"("[1,2]")");
}

TEST(Dsml, MissingClosingTags) {
  EXPECT_EQ(Dsml(kOpen +
                 "<｜DSML｜invoke name=\"run\"><｜DSML｜parameter name=\"cmd\" "
                 "string=\"true\">ls\n<｜DSML｜parameter name=\"n\" string=\"false\">3" +
                 kClose),
            R"(content= reasoning= call=run{"cmd": "ls\n", "n": 3})");
  EXPECT_EQ(
      Dsml(kOpen +
           "<｜DSML｜invoke name=\"run\">\n<｜DSML｜parameter name=\"cmd\" string=\"true\">ls\n" +
           Invoke("bare", "") + kClose),
      R"(content= reasoning= call=run{"cmd": "ls\n"} call=bare{})");
}

TEST(Dsml, MarkersInsideValues) {
  const std::string text =
      "say <｜DSML｜parameter name=\"n\" string=\"true\"> or\n<｜DSML｜tool_calls>";
  const Parsed parsed =
      ParseChecked(Case(CallFormat::kDeepseekV4),
                   kOpen + Invoke("write", Param("content", "true", text)) + kClose);
  EXPECT_EQ(OrderedJson::parse(parsed.message.calls.at(0).arguments).at("content"), text);
  for (const char* closing : {"</｜DSML｜paramter>", "</｜DSML｜>", "</｜DSML｜ parameter>"}) {
    EXPECT_EQ(Dsml(kOpen +
                   Invoke("run", "<｜DSML｜parameter name=\"cmd\" string=\"true\">make 2>&1" +
                                     std::string(closing) + "\n" + Param("n", "false", "3")) +
                   kClose),
              R"(content= reasoning= call=run{"cmd": "make 2>&1", "n": 3})");
  }
}

TEST(Dsml, BrokenInvocationsCostNothing) {
  const std::string good = Invoke("run", Param("cmd", "true", "ls"));
  const std::string bad =
      "<｜DSML｜invoke nam=\"run\">\n" + Param("cmd", "true", "a") + "\n</｜DSML｜invoke>";
  const std::string expected = R"(content= reasoning= call=run{"cmd": "ls"})";
  EXPECT_EQ(Dsml(kOpen + bad + "\n" + good + kClose), expected);
  EXPECT_EQ(Dsml(kOpen + good + "\n" + bad + kClose), expected);
  EXPECT_EQ(Dsml(kOpen + "<｜DSML｜invoke nam=\"run\">\n" + good + kClose), expected);
  // Without closing tag: its parameters are not those of the one before.
  EXPECT_EQ(Dsml(kOpen + "<｜DSML｜invoke name=\"bare\">\n" + bad + "\n" + good + kClose),
            R"(content= reasoning= call=bare{} call=run{"cmd": "ls"})");
  EXPECT_EQ(Dsml(kOpen + good + "\n<｜DSML｜invoke na"), expected);
  EXPECT_EQ(Dsml(kOpen + good + "\n<｜DS", EndReason::kLength), expected);
}

TEST(Dsml, WrapperMayBeMissing) {
  const std::string good = Invoke("run", Param("cmd", "true", "ls"));
  const std::string call = R"( reasoning= call=run{"cmd": "ls"})";
  EXPECT_EQ(Dsml(good), "content=" + call);
  EXPECT_EQ(Dsml("Hi\n" + good + "\n" + good + "\nBye"),
            "content=Hi\n\nBye" + call + R"( call=run{"cmd": "ls"})");
  EXPECT_EQ(Dsml("<｜DSML｜toolcalls>\n" + good + "\n</｜DSML｜toolcalls>\n"), "content=" + call);
  EXPECT_EQ(Dsml("so " + good), "content=so " + good + " reasoning=");
  const std::string unknown = Invoke("unknown", "");
  EXPECT_EQ(Dsml(unknown), "content=" + unknown + " reasoning=");
}

TEST(Dsml, TagsThatCloseThemselves) {
  EXPECT_EQ(
      Dsml(kOpen + "<｜DSML｜invoke name=\"bare\"/>\n<｜DSML｜invoke name=\"bare\" />" + kClose),
      "content= reasoning= call=bare{} call=bare{}");
}

TEST(Dsml, WhatIsNoParameterIsNotLost) {
  EXPECT_EQ(Dsml(kOpen + Invoke("run", R"({"cmd": "ls"})") + kClose),
            R"(content= reasoning= call=run{"cmd": "ls"})");
  EXPECT_EQ(Dsml(kOpen + Invoke("run", "ls -l") + kClose),
            R"(content= reasoning= call=run"ls -l")");
}

TEST(Dsml, V41HasASpace) {
  const std::string text =
      "Hi\n\n<｜DSML｜ calls>\n<｜DSML｜ invoke name=\"run\">\n<｜DSML｜ parameter name=\"cmd\" "
      "string=\"true\">a <｜DSML｜ invoke name=\"x\"></｜DSML｜ parameter>\n<｜DSML｜ parameter "
      "name=\"n\" "
      "string=\"false\">3</｜DSML｜ parameter>\n</｜DSML｜ invoke>\n</｜DSML｜ calls>";
  EXPECT_EQ(Describe(ParseChecked(Case(CallFormat::kDeepseekV41), text).message),
            "content=Hi\n\n reasoning= call=run{\"cmd\": \"a <｜DSML｜ invoke name=\\\"x\\\">\", "
            "\"n\": 3}");
  EXPECT_EQ(Dsml(text), "content=" + text + " reasoning=");
}

TEST(Dsml, Envelopes) {
  for (const char* key : {"arguments", "input"}) {
    EXPECT_EQ(
        Dsml(kOpen + Invoke("run", Param(key, "false", R"({"cmd": "ls", "n": "3"})")) + kClose),
        R"(content= reasoning= call=run{"cmd": "ls", "n": 3})");
  }
  EXPECT_EQ(Dsml(kOpen + Invoke("run", Param("input", "false", R"({"zap": 1})")) + kClose),
            R"(content= reasoning= call=run{"input": {"zap": 1}})");
  EXPECT_EQ(Dsml(kOpen +
                 Invoke("run", Param("input", "false", R"({"n": 1})") + Param("n", "false", "2")) +
                 kClose),
            R"(content= reasoning= call=run{"input": {"n": 1}, "n": 2})");
}

TEST(Dsml, Ends) {
  const std::string open = kOpen + "<｜DSML｜invoke name=\"run\">\n" + Param("n", "false", "3") +
                           "<｜DSML｜parameter name=\"cmd\" string=\"true\">l";
  EXPECT_EQ(Dsml(open), R"(content= reasoning= call=run{"n": 3, "cmd": "l"})");
  EXPECT_EQ(Dsml(open, EndReason::kLength), R"(content= reasoning= call=run{"n": 3, "cmd": "l)");
  EXPECT_EQ(Dsml(kOpen + "text"), "content=" + kOpen + "text reasoning=");
}

}  // namespace
}  // namespace mach::chat
