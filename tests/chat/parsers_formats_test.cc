// Typing by schema, Hermes and harmony.
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

std::string Typed(const std::string& key, const std::string& value) {
  const Parsed parsed = ParseChecked(Case(CallFormat::kQwen3Coder),
                                     "<tool_call>\n<function=typed>\n<parameter=" + key + ">\n" +
                                         value + "\n</parameter>\n</function>");
  const std::string& arguments = parsed.message.calls.at(0).arguments;
  const std::string prefix = "{\"" + key + "\": ";
  EXPECT_TRUE(arguments.starts_with(prefix)) << arguments;
  return arguments.substr(prefix.size(), arguments.size() - prefix.size() - 1);
}

TEST(Typing, BySchema) {
  EXPECT_EQ(Typed("s", "42"), R"("42")");
  EXPECT_EQ(Typed("s", "null"), R"("null")");
  EXPECT_EQ(Typed("i", " 42 "), "42");
  EXPECT_EQ(Typed("i", "12345678901234567890123"), "12345678901234567890123");
  EXPECT_EQ(Typed("i", "5.0"), "5");
  EXPECT_EQ(Typed("i", "5.5"), "5.5");  // JSON, if not what was asked for
  EXPECT_EQ(Typed("i", "abc"), R"("abc")");
  EXPECT_EQ(Typed("f", "5.0"), "5");
  EXPECT_EQ(Typed("f", "1.50"), "1.50");
  EXPECT_EQ(Typed("f", "1e999"), R"("1e999")");
  EXPECT_EQ(Typed("f", "NaN"), R"("NaN")");
  EXPECT_EQ(Typed("b", "true"), "true");
  EXPECT_EQ(Typed("b", "False"), "false");
  EXPECT_EQ(Typed("b", "1"), "true");
  EXPECT_EQ(Typed("b", "0"), "false");
  EXPECT_EQ(Typed("b", "maybe"), R"("maybe")");
  EXPECT_EQ(Typed("any", "42"), R"("42")");
  EXPECT_EQ(Typed("nowhere", "42"), R"("42")");
}

TEST(Typing, ObjectsAndArraysRecurse) {
  EXPECT_EQ(Typed("o", R"({"t": 5, "n": "7", "u": "é"})"), R"({"t": "5", "n": 7, "u": "é"})");
  EXPECT_EQ(Typed("o", "{broken"), R"("{broken")");
  EXPECT_EQ(Typed("a", R"(["1", 2.0])"), "[1, 2]");
  EXPECT_EQ(Typed("p", R"({"x": "1"})"), R"({"x": 1})");
  EXPECT_EQ(Typed("o", "[1]"), "[1]");
}

TEST(Typing, SeveralTypes) {
  EXPECT_EQ(Typed("sn", "null"), "null");
  EXPECT_EQ(Typed("sn", "nullable"), R"("nullable")");
  EXPECT_EQ(Typed("si", "42"), "42");
  EXPECT_EQ(Typed("si", " 42 apples "), R"(" 42 apples ")");
  EXPECT_EQ(Typed("so", R"({"a":1})"), R"({"a": 1})");
  EXPECT_EQ(Typed("so", "{not"), R"("{not")");
  EXPECT_EQ(Typed("e", "x"), R"("x")");
  EXPECT_EQ(Typed("e", "1"), "1");
  EXPECT_EQ(Typed("e", "null"), "null");
  EXPECT_EQ(Typed("c", "7"), "7");
  EXPECT_EQ(Typed("one", "1"), "1");
  EXPECT_EQ(Typed("one", "true"), "true");
  EXPECT_EQ(Typed("all", "1.5"), "1.5");
}

TEST(Typing, StringsAmongOtherTypesStreamOnceNothingElseIsLeft) {
  const auto parser = MakeParser(Case(CallFormat::kQwen3Coder));
  std::vector<ChatDelta> deltas;
  parser->Push({"<function=typed><parameter=sn>nul", false}, deltas);
  EXPECT_EQ(Describe(deltas), "0:typed");
  parser->Push({"x", false}, deltas);
  EXPECT_EQ(Describe(deltas), R"(0:typed a[{"sn": "nulx])");
}

std::string Hermes(std::string_view text, EndReason ended = EndReason::kStop) {
  return Describe(ParseChecked(Case(CallFormat::kHermes, ended), text).message);
}

TEST(Hermes, Calls) {
  EXPECT_EQ(Hermes("Hi\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\":  [1, 2.0], "
                   "\"b\": \"ü\\n\"}}\n</tool_call>\nBye"),
            "content=Hi\n\nBye reasoning= call=f{\"a\":  [1, 2.0], \"b\": \"ü\\n\"}");
  EXPECT_EQ(Hermes(R"(<tool_call>{"arguments": {"name": "x"}, "id": 7, "name": "f"}</tool_call>)"),
            R"(content= reasoning= call=f{"name": "x"})");
  EXPECT_EQ(Hermes(R"(<tool_call>{"name": "f"}</tool_call>)"), "content= reasoning= call=f{}");
  EXPECT_EQ(Hermes(R"(<tool_call>{"name": "f", "arguments": {}})"), "content= reasoning= call=f{}");
  EXPECT_EQ(Hermes(R"(<tool_call>{"name":"f","arguments":{"s":"</tool_call>"}}</tool_call>)"),
            R"(content= reasoning= call=f{"s":"</tool_call>"})");
  EXPECT_EQ(Hermes("<tool_call>{\"name\":\"f\",\"arguments\":{\"s\":\"a\nb\"}}</tool_call>"),
            R"(content= reasoning= call=f{"s":"a\nb"})");
}

TEST(Hermes, ArgumentsAsAString) {
  EXPECT_EQ(Hermes(R"(<tool_call>{"name":"f","arguments":"{\"a\": 1}"}</tool_call>)"),
            R"(content= reasoning= call=f{"a": 1})");
  EXPECT_EQ(Hermes(R"(<tool_call>{"name":"f","arguments":"text"}</tool_call>)"),
            R"(content= reasoning= call=f"text")");
}

TEST(Hermes, Streams) {
  const auto parser = MakeParser(Case(CallFormat::kHermes));
  std::vector<ChatDelta> deltas;
  const auto next = [&](std::string_view text) {
    deltas.clear();
    parser->Push({text, false}, deltas);
    return Describe(deltas);
  };
  EXPECT_EQ(next("<tool_call>{\"name\": \"f"), "");
  EXPECT_EQ(next("\""), "0:f");
  EXPECT_EQ(next(", \"arguments\": {\"s\": \"a"), R"(a[{"s": "a])");
  EXPECT_EQ(next("b\\"), "a[b]");
  EXPECT_EQ(next("n\", \"n\": 1"), R"(a[\n"])");
  EXPECT_EQ(next("2"), "");
  EXPECT_EQ(next("}"), R"(a[, "n": 12])");
  EXPECT_EQ(next("}"), "a[}]");
}

TEST(Hermes, BrokenBlocks) {
  // Before the name it is content, after it a call whose arguments are as they were written.
  const std::string good = R"(<tool_call>{"name": "g", "arguments": {}}</tool_call>)";
  for (const std::string bad :
       {"<tool_call>nothing</tool_call>", "<tool_call>{\"a\": oops}</tool_call>",
        "<tool_call>{\"arguments\": {}}</tool_call>", "<tool_call>{\"a\": \"no end}</tool_call>"}) {
    EXPECT_EQ(Hermes("Hi " + bad + "\n" + good), "content=Hi " + bad + "\n reasoning= call=g{}");
  }
  const auto arguments = [&](const std::string& block) {
    const Parsed parsed =
        ParseChecked(Case(CallFormat::kHermes), "<tool_call>" + block + "</tool_call>" + good);
    EXPECT_EQ(parsed.message.content, "");
    EXPECT_EQ(parsed.message.calls.size(), 2U);
    EXPECT_EQ(parsed.message.calls.at(1).arguments, "{}");
    return parsed.message.calls.at(0).arguments;
  };
  EXPECT_EQ(arguments(R"({"name": "f", "arguments": {"a": oops}})"), R"({"a": oops})");
  EXPECT_EQ(arguments(R"({"name": "f", "arguments": {} oops})"), "{}oops");
  EXPECT_EQ(arguments(R"({"name": "f", oops})"), R"("{\"name\": \"f\", oops}")");
  EXPECT_EQ(arguments(R"({"name": "f", "args": {"a": 1}})"),
            R"("{\"name\": \"f\", \"args\": {\"a\": 1}}")");
  EXPECT_EQ(arguments(R"({"name": "f", "parameters": {"a": 1}})"), R"({"a": 1})");
  // A string without its end holds what comes next, which is read again.
  EXPECT_TRUE(arguments(R"({"name": "f", "arguments": {"a": "x}})").starts_with(R"({"a": "x}})"));
  EXPECT_EQ(Hermes(R"(<tool_call>{"name": "f", "arguments": {"a": "x}}</tool_call>)"),
            R"(content= reasoning= call=f{"a": "x}}</tool_call>)");
}

TEST(Hermes, BracketsAndCommas) {
  for (const char* block : {R"({"name": "f", "arguments": {"a": [1, "b"]})",
                            R"({"name": "f", "arguments": {"a": [1, "b"])",
                            R"({"name": "f", "arguments": {"a": [1, "b")",
                            R"({"name": "f", "arguments": {"a": [1, "b"]}}})",
                            R"({"name": "f", "arguments": {"a": [1, "b"]}} } )",
                            R"({"name": "f", "arguments": {"a": [1, "b",],}})",
                            R"({"name": "f", "arguments": {"a": [1, "b"]},})"}) {
    const std::string expected = R"(content=ok reasoning= call=f{"a": [1, "b"]})";
    EXPECT_EQ(Hermes("<tool_call>\n" + std::string(block) + "\n</tool_call>ok"), expected) << block;
  }
  EXPECT_EQ(Hermes(R"(<tool_call>{"name": "f", "arguments": {"a": 1, "b": 2</tool_call>)"),
            R"(content= reasoning= call=f{"a": 1, "b": 2})");
  EXPECT_EQ(Hermes(R"(<tool_call>{"arguments": {"a": 1}, "name": "f"<tool_call>{"name": "g"})"),
            R"(content= reasoning= call=f{"a": 1} call=g{})");
  EXPECT_EQ(Hermes(R"(<tool_call>{"name": "f", "arguments": {"a":</tool_call>)"),
            R"(content= reasoning= call=f{"a":)");
}

TEST(Hermes, TextAfterTheObjectIsContent) {
  EXPECT_EQ(Hermes(R"(<tool_call>{"name": "f"} Now wait.</tool_call> Done.)"),
            "content= Now wait. Done. reasoning= call=f{}");
}

TEST(Hermes, Ends) {
  const std::string open =
      R"(<tool_call>{"name": "f", "arguments": {"a": "x", "b": 1, "c": "y\u00)";
  EXPECT_EQ(Hermes(open), R"(content= reasoning= call=f{"a": "x", "b": 1, "c": "y"})");
  EXPECT_EQ(Hermes(open, EndReason::kLength),
            R"(content= reasoning= call=f{"a": "x", "b": 1, "c": "y)");
  EXPECT_EQ(Hermes(R"(<tool_call>{"name": "f", "arguments": {"a": "x", "b": 1)"),
            R"(content= reasoning= call=f{"a": "x"})");
  EXPECT_EQ(Hermes(R"(<tool_call>{"name": "f", "arguments": {"a": 1}})", EndReason::kLength),
            R"(content= reasoning= call=f{"a": 1})");
  EXPECT_EQ(Hermes(R"(<tool_call>{"name": "f", "arguments": {"a": 1})", EndReason::kLength),
            R"(content= reasoning= call=f{"a": 1)");
  EXPECT_EQ(Hermes("Hi<tool_call>{\"na"), "content=Hi reasoning=");
}

std::string Harmony(std::string_view text, EndReason ended = EndReason::kStop) {
  return Describe(ParseChecked(Case(CallFormat::kHarmony, ended), text).message);
}

TEST(Harmony, Channels) {
  EXPECT_EQ(Harmony("<|channel|>analysis<|message|>why<|end|><|start|>assistant<|channel|>final"
                    "<|message|>Hi<|return|>"),
            "content=Hi reasoning=why");
  EXPECT_EQ(
      Harmony("<|channel|>commentary<|message|>First<|end|><|start|>assistant<|channel|>final "
              "<|constrain|>json<|message|>{}<|return|> ignored"),
      "content=First\n{} reasoning=");
  EXPECT_EQ(Harmony("just text"), "content=just text reasoning=");
}

TEST(Harmony, Calls) {
  const std::string expected = R"(content= reasoning= call=run{"cmd":"ls"})";
  for (const char* header :
       {"<|channel|>commentary to=functions.run <|constrain|>json<|message|>",
        "<|channel|>analysis to=functions.run code<|message|>",
        " to=functions.run<|channel|>commentary <|constrain|>json<|message|>",
        "<|start|>assistant to=functions.run<|channel|>final<|message|>",
        "<|channel|>commentary to=run<|message|>", "<|channel|>commentary to=run json<|message|>",
        "<|channel|>commentary<|constrain|>json to=functions.run <|message|>",
        "<|channel|>commentary <|constrain|>json to=run<|message|>"}) {
    EXPECT_EQ(Harmony(std::string(header) + R"({"cmd":"ls"})" + "\n<|call|>x"), expected) << header;
  }
  EXPECT_EQ(Harmony("<|channel|>commentary to=a.b<|message|><|call|>"),
            "content= reasoning= call=a.b{}");
  for (const char* ignored : {"assistant", "browser.search", "python", "container.exec"}) {
    EXPECT_EQ(Harmony("<|channel|>commentary to=" + std::string(ignored) +
                      "<|message|>{}<|end|><|start|>assistant<|channel|>final<|message|>ok"),
              "content=ok reasoning=");
  }
}

TEST(Harmony, StopsAndStreams) {
  const ParseCase options = Case(CallFormat::kHarmony);
  EXPECT_TRUE(ParseChecked(options, "<|channel|>final<|message|>x<|return|>y").should_stop);
  EXPECT_FALSE(ParseChecked(options, "<|channel|>final<|message|>x").should_stop);
  const auto parser = MakeParser(options);
  std::vector<ChatDelta> deltas;
  parser->Push({"<|channel|>commentary to=functions.run<|message|>{\"cmd\": \"a", false}, deltas);
  EXPECT_EQ(Describe(deltas), R"(0:run a[{"cmd": "a])");
}

TEST(Harmony, GoesOnAfterACall) {
  EXPECT_EQ(Harmony("<|channel|>commentary to=run<|message|>{}<|call|> x <|start|>assistant to=bare"
                    "<|channel|>commentary<|message|>{}<|call|><|start|>assistant<|channel|>final"
                    "<|message|>Done<|return|>"),
            "content=Done reasoning= call=run{} call=bare{}");
}

TEST(Harmony, Broken) {
  EXPECT_EQ(
      Harmony("<|channel|>what is this?<|end|><|start|>assistant<|channel|>final<|message|>ok"),
      "content=what is this?\nok reasoning=");
  EXPECT_EQ(Harmony("<|channel|>commentary to=run<|message|>not json<|call|>"),
            "content= reasoning= call=runnot json");
  EXPECT_EQ(Harmony("<|channel|>commentary to=run<|message|>{\"cmd\": \"a"),
            R"(content= reasoning= call=run{"cmd": "a"})");
  EXPECT_EQ(Harmony("<|channel|>commentary to=run<|message|>{\"cmd\": \"a", EndReason::kLength),
            R"(content= reasoning= call=run{"cmd": "a)");
  EXPECT_EQ(Harmony("<|channel|>final<|message|>a<|end|><|start|>assistant<|chan"),
            "content=a reasoning=");
}

}  // namespace
}  // namespace mach::chat
