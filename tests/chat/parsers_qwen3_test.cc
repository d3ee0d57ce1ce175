// Qwen3 XML calls.
#include <gtest/gtest.h>

#include "tests/chat/parsers_support.h"

namespace mach::chat {
namespace {

ParseCase Qwen(EndReason ended = EndReason::kStop) {
  ParseCase options;
  options.format = CallFormat::kQwen3Coder;
  options.tools = &TestTools();
  options.ended = ended;
  return options;
}

std::string Message(std::string_view text, EndReason ended = EndReason::kStop) {
  return Describe(ParseChecked(Qwen(ended), text).message);
}

std::string Value(std::string_view value) {
  const Parsed parsed =
      ParseChecked(Qwen(), "<tool_call>\n<function=write>\n<parameter=content>\n" +
                               std::string(value) + "\n</parameter>\n</function>\n</tool_call>");
  EXPECT_EQ(parsed.message.calls.size(), 1U);
  return OrderedJson::parse(parsed.message.calls.at(0).arguments).at("content");
}

TEST(Qwen3Xml, OrderOfDeltas) {
  const Parsed parsed = ParseWhole(
      Qwen(),
      "<tool_call>\n<function=run>\n<parameter=cmd>\nls\n</parameter>\n<parameter=n>\n3\n"
      "</parameter>\n</function>\n</tool_call>");
  EXPECT_EQ(Describe(parsed.deltas), R"(0:run a[{"cmd": "ls] a["] a[, "n": 3] a[}])");
  EXPECT_EQ(parsed.finish_reason, "tool_calls");
}

TEST(Qwen3Xml, NoArguments) {
  EXPECT_EQ(Message("<tool_call>\n<function=bare>\n</function>\n</tool_call>"),
            "content= reasoning= call=bare{}");
  EXPECT_EQ(Message("<tool_call><function=bare></function></tool_call>"),
            "content= reasoning= call=bare{}");
}

TEST(Qwen3Xml, ExactlyOneNewlineGoesOnEitherSide) {
  EXPECT_EQ(Value("  indented\n\ttab  "), "  indented\n\ttab  ");
  EXPECT_EQ(Value("\nfirst\n\n"), "\nfirst\n\n");
  EXPECT_EQ(Value(""), "");
  EXPECT_EQ(Message("<function=run><parameter=cmd>ls</parameter></function>"),
            R"(content= reasoning= call=run{"cmd": "ls"})");
  EXPECT_EQ(Message("<function=run><parameter=cmd>\n</parameter></function>"),
            R"(content= reasoning= call=run{"cmd": ""})");
}

TEST(Qwen3Xml, WrapperMayBeMissing) {
  const std::string call = "<function=run>\n<parameter=cmd>\nls\n</parameter>\n</function>";
  const std::string expected = R"(content= reasoning= call=run{"cmd": "ls"})";
  EXPECT_EQ(Message(call), expected);
  EXPECT_EQ(Message("<tool_call>\n" + call), expected);
  EXPECT_EQ(Message(call + "\n</tool_call>"), expected);
  EXPECT_EQ(Message("Hi\n" + call + "\n" + call),
            R"(content=Hi)"
            "\n"
            R"( reasoning= call=run{"cmd": "ls"} call=run{"cmd": "ls"})");
}

TEST(Qwen3Xml, OpenerWithoutFunctionIsText) {
  EXPECT_EQ(Message("Use <tool_call> like this </tool_call>."),
            "content=Use <tool_call> like this </tool_call>. reasoning=");
  EXPECT_EQ(Message("<tool_call>{\"name\": \"f\"}</tool_call>"),
            "content=<tool_call>{\"name\": \"f\"}</tool_call> reasoning=");
  EXPECT_EQ(Message("<tool_call>\n<function=>\n</function>"),
            "content=<tool_call>\n<function=>\n</function> reasoning=");
  EXPECT_EQ(Message("<tool_call>\n<tool_call>\n<function=bare></function></tool_call>"),
            "content=<tool_call>\n reasoning= call=bare{}");
}

TEST(Qwen3Xml, TagsInsideValues) {
  EXPECT_EQ(Value("a </parameter> b"), "a </parameter> b");
  EXPECT_EQ(Value("x\n</parameter>\ny"), "x\n</parameter>\ny");
  EXPECT_EQ(Value("a </function> b </tool_call> c"), "a </function> b </tool_call> c");
  EXPECT_EQ(Value("<think>no</think>"), "<think>no</think>");
  EXPECT_EQ(Value("mid <parameter=path> line"), "mid <parameter=path> line");
  const std::string example =
      "Example:\n<tool_call>\n<function=run>\n<parameter=cmd>\nls\n</parameter>\n<parameter=n>\n3\n"
      "</parameter>\n</function>\n</tool_call>\nDone.";
  EXPECT_EQ(Value(example), example);
  const std::string two_lines = "<parameter=x>\n<parameter=y>\n1\n</parameter>\n</parameter>\nz";
  EXPECT_EQ(Value(two_lines), two_lines);
}

TEST(Qwen3Xml, NextDeclaredParameterCloses) {
  EXPECT_EQ(Message("<function=run>\n<parameter=cmd>\nls\n<parameter=n>\n3\n</parameter>\n"
                    "</function>"),
            R"(content= reasoning= call=run{"cmd": "ls", "n": 3})");
  // Seen already: text, and it pairs with one later close.
  EXPECT_EQ(Message("<function=run>\n<parameter=cmd>\nls\n<parameter=cmd>\nx\n</parameter>\ny\n"
                    "</parameter>\n</function>"),
            R"(content= reasoning= call=run{"cmd": "ls\n<parameter=cmd>\nx\n</parameter>\ny"})");
}

TEST(Qwen3Xml, UndeclaredParameters) {
  EXPECT_EQ(Message("<function=run>\n<parameter=other>\n42\n</parameter>\n</function>"),
            R"(content= reasoning= call=run{"other": "42"})");
  // Of an undeclared function any parameter may follow.
  EXPECT_EQ(Message("<function=zap>\n<parameter=a>\n1\n</parameter>\n<parameter=b>\n2\n"
                    "</parameter>\n</function>"),
            R"(content= reasoning= call=zap{"a": "1", "b": "2"})");
}

TEST(Qwen3Xml, BrokenParameterTagsAreDropped) {
  EXPECT_EQ(Message("<function=run>\n<parameter=\n<parameter=cmd>\nls\n</parameter>\n</function>"),
            R"(content= reasoning= call=run{"cmd": "ls"})");
}

TEST(Qwen3Xml, EndedInsideACall) {
  const std::string open = "<tool_call>\n<function=run>\n<parameter=cmd>\nls\n";
  EXPECT_EQ(Message(open), R"(content= reasoning= call=run{"cmd": "ls\n"})");
  EXPECT_EQ(Message(open + "</parameter>"), R"(content= reasoning= call=run{"cmd": "ls"})");
  EXPECT_EQ(Message(open + "</parameter>\n</func"), R"(content= reasoning= call=run{"cmd": "ls"})");
  EXPECT_EQ(Message(open + "</parameter>\n<parameter=n>\n3"),
            R"(content= reasoning= call=run{"cmd": "ls"})");
  EXPECT_EQ(Message(open + "</parameter>\n</tool_call>"),
            R"(content= reasoning= call=run{"cmd": "ls"})");
  EXPECT_EQ(Message(open + "</function>\n</tool_call>"),
            R"(content= reasoning= call=run{"cmd": "ls"})");
  EXPECT_EQ(Message("<tool_call>\n<function=run>"), "content= reasoning= call=run{}");
}

TEST(Qwen3Xml, CutOffInsideACallStaysUnfinished) {
  const std::string text = "<tool_call>\n<function=run>\n<parameter=cmd>\nls\n</parameter>\n";
  for (size_t length = 27; length <= text.size(); ++length) {
    const Parsed parsed = ParseChecked(Qwen(EndReason::kLength), text.substr(0, length));
    ASSERT_EQ(parsed.message.calls.size(), 1U);
    EXPECT_FALSE(OrderedJson::accept(parsed.message.calls[0].arguments));
    EXPECT_EQ(parsed.finish_reason, "length");
  }
}

TEST(Qwen3Xml, SeveralCalls) {
  const std::string text =
      "First\n<tool_call>\n<function=run>\n<parameter=cmd>\na\n</parameter>\n</function>\n"
      "</tool_call>\n<tool_call>\n<function=bare>\n</function>\n</tool_call>\nLast";
  EXPECT_EQ(Message(text), "content=First\n\nLast reasoning= call=run{\"cmd\": \"a\"} call=bare{}");
  ParseCase single = Qwen();
  single.parallel = false;
  const Parsed parsed = ParseChecked(single, text);
  EXPECT_EQ(parsed.message.calls.size(), 1U);
  EXPECT_TRUE(parsed.should_stop);
}

TEST(Qwen3Xml, StringsStreamAsGenerated) {
  const auto parser = MakeParser(Qwen());
  std::vector<ChatDelta> deltas;
  parser->Push({"<tool_call>\n<function=write>\n<parameter=content>\n", false}, deltas);
  EXPECT_EQ(Describe(deltas), "0:write");
  const auto next = [&](std::string_view text) {
    deltas.clear();
    parser->Push({text, false}, deltas);
    return Describe(deltas);
  };
  EXPECT_EQ(next("a"), R"(a[{"content": "a])");
  EXPECT_EQ(next(" <"), "a[ ]");
  EXPECT_EQ(next(" b"), "a[< b]");
  EXPECT_EQ(next("\n"), "");
  EXPECT_EQ(next("c"), R"(a[\nc])");
  EXPECT_EQ(next("\n</parameter>"), "");
  EXPECT_EQ(next("\n</function"), "");
  EXPECT_EQ(next(">"), R"(a["] a[}])");
}

TEST(Qwen3Xml, NameGoesOutAtOnce) {
  const auto parser = MakeParser(Qwen());
  std::vector<ChatDelta> deltas;
  parser->Push({"<tool_call>\n<function=run", false}, deltas);
  EXPECT_TRUE(deltas.empty());
  parser->Push({">", false}, deltas);
  EXPECT_EQ(Describe(deltas), "0:run");
}

TEST(Qwen3Xml, BareFunctionIsACallAtALineStartOrWithADeclaredName) {
  const std::string talk = "Write <function=foo> to open, then </function> to close. Bye.";
  EXPECT_EQ(Message(talk), "content=" + talk + " reasoning=");
  EXPECT_EQ(Message("Hi\n<function=foo>\n</function>"), "content=Hi\n reasoning= call=foo{}");
  EXPECT_EQ(Message("Hi <function=run>\n<parameter=cmd>\nls\n</parameter>\n</function>"),
            R"(content=Hi  reasoning= call=run{"cmd": "ls"})");
}

TEST(Qwen3Xml, BrokenCallsCostNothing) {
  const std::string good = "<tool_call>\n<function=bare>\n</function>\n</tool_call>";
  for (const std::string bad :
       {"<tool_call>\n<function=run>\n<parameter=cmd>\nls\n</tool_call>",
        "<tool_call>\n<function=run>\n<parameter=cmd>\nls\n</function>\n</tool_call>",
        "<tool_call>\n<function=run>\n<parameter=cmd>\nls\n</parameter>\n</tool_call>",
        "<tool_call>\n<function=run>\n<parameter=cmd>\nls\n</parameter>"}) {
    EXPECT_EQ(Message(bad + "\n" + good),
              R"(content= reasoning= call=run{"cmd": "ls"} call=bare{})")
        << bad;
  }
  const std::string nameless = "<tool_call>\n<function=\n</function>\n</tool_call>\n";
  EXPECT_EQ(Message(nameless + good), "content=" + nameless + " reasoning= call=bare{}");
}

TEST(Qwen3Xml, WhatIsNoParameterIsNotLost) {
  EXPECT_EQ(Message("<tool_call>\n<function=run>\n{\"cmd\": \"ls\"}\n</function>\n</tool_call>"),
            R"(content= reasoning= call=run{"cmd": "ls"})");
  EXPECT_EQ(Message("<tool_call>\n<function=run>\n<param=cmd>\nls\n</param>\n</function>"),
            "content= reasoning= call=run\"<param=cmd>\\nls\\n</param>\"");
}

TEST(Qwen3Xml, KeysComeOnce) {
  EXPECT_EQ(Message("<function=run>\n<parameter=cmd>\na\n</parameter>\n<parameter=cmd>\nb\n"
                    "</parameter>\n</function>"),
            R"(content= reasoning= call=run{"cmd": "a"})");
}

}  // namespace
}  // namespace mach::chat
