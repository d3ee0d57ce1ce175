// Gemma 4: calls and thoughts.
#include <gtest/gtest.h>

#include "tests/chat/parsers_support.h"

namespace mach::chat {
namespace {

ParseCase Case(EndReason ended = EndReason::kStop) {
  ParseCase options;
  options.format = CallFormat::kGemma4;
  options.reasoning = ReasoningFormat::kGemma4;
  options.tools = &TestTools();
  options.ended = ended;
  return options;
}

std::string Gemma(std::string_view text, EndReason ended = EndReason::kStop) {
  return Describe(ParseChecked(Case(ended), text).message);
}

std::string Arguments(const std::string& object) {
  const Parsed parsed = ParseChecked(Case(), "<|tool_call>call:zap{" + object + "}<tool_call|>ok");
  EXPECT_EQ(parsed.message.content, "ok");
  EXPECT_EQ(parsed.message.calls.size(), 1U);
  return parsed.message.calls.at(0).arguments;
}

TEST(Gemma4, Calls) {
  EXPECT_EQ(Gemma("Hi <|tool_call>call:run{cmd:<|\"|>ls \"x\" {y},z\n<|\"|>,n:3}<tool_call|>"
                  "<|tool_call>call:bare{}<tool_call|> Bye"),
            "content=Hi  Bye reasoning= call=run{\"cmd\": \"ls \\\"x\\\" {y},z\\n\", \"n\": 3} "
            "call=bare{}");
}

TEST(Gemma4, Values) {
  EXPECT_EQ(Arguments("a:1.5e-05,b:-3,c:true,d:null"),
            R"({"a": 1.5e-05, "b": -3, "c": true, "d": null})");
  EXPECT_EQ(Arguments("o:{key with space:{main:[[{n:<|\"|>x,]}<|\"|>, i:0}]]}},e:[],f:{}"),
            R"({"o": {"key with space": {"main": [[{"n": "x,]}", "i": 0}]]}}, "e": [], "f": {}})");
  EXPECT_EQ(Arguments("a : word , b: 5\" pipe,c:\"plain, text\""),
            R"({"a": "word", "b": "5\" pipe", "c": "plain, text"})");
  EXPECT_EQ(Arguments("<|\"|>a:b<|\"|>:1,\"c\":2"), R"({"a:b": 1, "c": 2})");
  EXPECT_EQ(Arguments("s:<|\"|><|tool_call>call:f{}<tool_call|> <channel|><|\"|>"),
            R"({"s": "<|tool_call>call:f{}<tool_call|> <channel|>"})");
}

TEST(Gemma4, TypesBySchema) {
  EXPECT_EQ(
      Gemma("<|tool_call>call:typed{s:42,i:<|\"|>42<|\"|>,b:True,a:[<|\"|>1<|\"|>]}<tool_call|>"),
      R"(content= reasoning= call=typed{"s": "42", "i": 42, "b": true, "a": [1]})");
}

TEST(Gemma4, Repairs) {
  EXPECT_EQ(Gemma("<|tool_call>call:run{n:3<tool_call|>ok"),
            R"(content=ok reasoning= call=run{"n": 3})");
  EXPECT_EQ(Gemma("<|tool_call>call:zap{a:[1,{b:2<tool_call|>ok"),
            R"(content=ok reasoning= call=zap{"a": [1, {"b": 2}]})");
  EXPECT_EQ(Gemma("<|tool_call>call:run{n:3,}} }<tool_call|>ok"),
            R"(content=ok reasoning= call=run{"n": 3})");
  EXPECT_EQ(Gemma("<|tool_call>call:run{ls -l}<tool_call|>"),
            R"(content= reasoning= call=run"ls -l")");
  const std::string bad = "<|tool_call>call:no brace<tool_call|>";
  EXPECT_EQ(Gemma(bad + "<|tool_call>call:bare{}<tool_call|>"),
            "content=" + bad + " reasoning= call=bare{}");
}

TEST(Gemma4, Thoughts) {
  EXPECT_EQ(Gemma("<|channel>thought\nwhy\n<channel|>because"), "content=because reasoning=why\n");
  EXPECT_EQ(Gemma("<|channel>thought\n<channel|>because"), "content=because reasoning=");
  EXPECT_EQ(Gemma("<|channel>well<channel|>so"), "content=so reasoning=well");
  EXPECT_EQ(Gemma("<|channel>thought\nwhy <|tool_call>call:bare{}<tool_call|>"),
            "content= reasoning=why  call=bare{}");
  EXPECT_EQ(Gemma("<|channel>thou", EndReason::kLength), "content= reasoning=");
  ParseCase options = Case();
  options.starts_in = StartsIn::kReasoning;
  EXPECT_EQ(Describe(ParseChecked(options, "why<channel|>because").message),
            "content=because reasoning=why");
}

TEST(Gemma4, Ends) {
  const std::string open = "<|tool_call>call:run{n:3,cmd:<|\"|>l";
  EXPECT_EQ(Gemma(open), R"(content= reasoning= call=run{"n": 3, "cmd": "l"})");
  EXPECT_EQ(Gemma(open, EndReason::kLength), R"(content= reasoning= call=run{"n": 3, "cmd": "l)");
  EXPECT_EQ(Gemma("a<|tool_call>call:ru", EndReason::kLength), "content=a reasoning=");
}

TEST(Gemma4, Streams) {
  const auto parser = MakeParser(Case());
  std::vector<ChatDelta> deltas;
  const auto next = [&](std::string_view text) {
    deltas.clear();
    parser->Push({text, false}, deltas);
    return Describe(deltas);
  };
  EXPECT_EQ(next("<|tool_call>call:run"), "");
  EXPECT_EQ(next("{"), "0:run");
  EXPECT_EQ(next("cmd:<|\"|>a"), R"(a[{"cmd": "a])");
  EXPECT_EQ(next("b<|\"|>,n:"), R"(a[b] a["])");
  EXPECT_EQ(next("12"), "");
  EXPECT_EQ(next("}"), R"(a[, "n": 12] a[}])");
}

}  // namespace
}  // namespace mach::chat
