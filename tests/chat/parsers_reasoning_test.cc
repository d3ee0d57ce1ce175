// Reasoning, marker holding, special tokens, and what a parser says of itself.
#include <algorithm>
#include <array>

#include <gtest/gtest.h>

#include "tests/chat/parsers_support.h"

namespace mach::chat {
namespace {

ParseCase Case(CallFormat format, ReasoningFormat reasoning,
               StartsIn starts_in = StartsIn::kContent) {
  ParseCase options;
  options.format = format;
  options.reasoning = reasoning;
  options.starts_in = starts_in;
  options.tools = &TestTools();
  return options;
}

std::string Plain(std::string_view text, ReasoningFormat reasoning,
                  StartsIn starts_in = StartsIn::kContent) {
  return Describe(ParseChecked(Case(CallFormat::kNone, reasoning, starts_in), text).message);
}

TEST(Reasoning, SplitsAtTheTags) {
  for (const ReasoningFormat reasoning :
       {ReasoningFormat::kQwen3, ReasoningFormat::kDeepseekR1, ReasoningFormat::kDeepseekV4}) {
    EXPECT_EQ(Plain("<think>why</think>because", reasoning), "content=because reasoning=why");
    EXPECT_EQ(Plain("why</think>because", reasoning, StartsIn::kReasoning),
              "content=because reasoning=why");
    EXPECT_EQ(Plain("<think>why</think>because", reasoning, StartsIn::kReasoning),
              "content=because reasoning=why");
    EXPECT_EQ(Plain("never closed", reasoning, StartsIn::kReasoning),
              "content= reasoning=never closed");
    EXPECT_EQ(Plain("plain </think>text", reasoning), "content=plain text reasoning=");
  }
}

TEST(Reasoning, ContentAfterItIsVerbatim) {
  EXPECT_EQ(Plain("<think>a</think>\n\n b \n", ReasoningFormat::kQwen3),
            "content=\n\n b \n reasoning=a");
  EXPECT_EQ(Plain("<think>\n\n</think>\n\nHi", ReasoningFormat::kQwen3),
            "content=\n\nHi reasoning=");
}

TEST(Reasoning, WithoutItTagsAreText) {
  EXPECT_EQ(Plain("<think>a</think>b", ReasoningFormat::kNone),
            "content=<think>a</think>b reasoning=");
}

TEST(Reasoning, ToolMarkerEndsItExceptForR1) {
  const std::string call = "<tool_call>\n<function=bare>\n</function>\n</tool_call>";
  const auto parse = [&](ReasoningFormat reasoning) {
    return Describe(
        ParseChecked(Case(CallFormat::kQwen3Coder, reasoning, StartsIn::kReasoning), "hm " + call)
            .message);
  };
  EXPECT_EQ(parse(ReasoningFormat::kQwen3), "content= reasoning=hm  call=bare{}");
  EXPECT_EQ(parse(ReasoningFormat::kDeepseekV4), "content= reasoning=hm  call=bare{}");
  EXPECT_EQ(parse(ReasoningFormat::kDeepseekR1), "content= reasoning=hm " + call);
}

TEST(Holding, NotBeyondTheNextCharacter) {
  for (const CallFormat format : {CallFormat::kQwen3Coder, CallFormat::kHermes,
                                  CallFormat::kDeepseekV4, CallFormat::kHarmony}) {
    const auto parser = MakeParser(Case(format, ReasoningFormat::kQwen3));
    std::vector<ChatDelta> deltas;
    parser->Push({"a <", false}, deltas);
    EXPECT_EQ(Describe(deltas), "c[a ]");
    parser->Push({" ", false}, deltas);
    EXPECT_EQ(Describe(deltas), "c[a ] c[< ]");
    parser->Push({"b", false}, deltas);
    EXPECT_EQ(Describe(deltas), "c[a ] c[< ] c[b]");
  }
}

TEST(Holding, ReleasedAtTheEnd) {
  for (const EndReason ended : {EndReason::kStop, EndReason::kLength}) {
    ParseCase options = Case(CallFormat::kQwen3Coder, ReasoningFormat::kQwen3);
    options.ended = ended;
    EXPECT_EQ(ParseChecked(options, "x <tool_ca").message.content, "x <tool_ca");
    EXPECT_EQ(ParseChecked(options, "x <").message.content, "x <");
  }
}

TEST(Holding, OpeningThatIsCutOffIsNotShown) {
  const auto parse = [](CallFormat format, EndReason ended, std::string_view text) {
    ParseCase options = Case(format, ReasoningFormat::kNone);
    options.ended = ended;
    return Describe(ParseChecked(options, text).message);
  };
  const std::string good = "<tool_call>{\"name\": \"f\"}</tool_call>";
  EXPECT_EQ(parse(CallFormat::kHermes, EndReason::kLength, good + "<tool_call>\n"),
            "content= reasoning= call=f{}");
  EXPECT_EQ(parse(CallFormat::kQwen3Coder, EndReason::kLength, "a<tool_call>\n<function=ru"),
            "content=a reasoning=");
  EXPECT_EQ(parse(CallFormat::kQwen3Coder, EndReason::kStop, "a <tool_call>"),
            "content=a <tool_call> reasoning=");
  EXPECT_EQ(parse(CallFormat::kDeepseekV32, EndReason::kLength,
                  "a<｜DSML｜function_calls>\n<｜DSML｜invoke na"),
            "content=a reasoning=");
}

TEST(Holding, InvalidAndCutUtf8) {
  EXPECT_EQ(Plain("a\xFF\xC3(\xE2\x82", ReasoningFormat::kNone),
            "content=a\uFFFD\uFFFD(\uFFFD\uFFFD reasoning=");
  const auto parser = MakeParser({});
  std::vector<ChatDelta> deltas;
  parser->Push({"\xE2\x82", false}, deltas);
  EXPECT_TRUE(deltas.empty());
  parser->Push({"\xAC", false}, deltas);
  EXPECT_EQ(Describe(deltas), "c[\u20AC]");
}

TEST(Whitespace, AroundCallsIsDropped) {
  const std::string call = "<tool_call>\n<function=bare>\n</function>\n</tool_call>";
  const ParseCase options = Case(CallFormat::kQwen3Coder, ReasoningFormat::kQwen3);
  EXPECT_EQ(
      Describe(ParseChecked(options, "<think>x</think>\n\n" + call + "\n\n" + call + "\n").message),
      "content= reasoning=x call=bare{} call=bare{}");
  EXPECT_EQ(ParseChecked(options, " \n").message.content, " \n");
}

TEST(SpecialTokens, MarkersMatchByTokenOnly) {
  ParseCase options = Case(CallFormat::kQwen3Coder, ReasoningFormat::kQwen3);
  options.special_tokens = {"<think>", "</think>", "<tool_call>", "</tool_call>", "<|im_end|>"};
  const auto parser = MakeParser(options);
  std::vector<ChatDelta> deltas;
  for (const auto& [text, special] :
       std::vector<std::pair<std::string, bool>>{{"<think>", true},
                                                 {"a</think>b", false},
                                                 {"</think>", true},
                                                 {"<tool_call>x", false},
                                                 {"<|vision|>", true},
                                                 {"<tool_call>", true},
                                                 {"\n<function=write>\n<parameter=path>\n", false},
                                                 {"<think>", true},
                                                 {"\n</parameter>\n</function>\n", false},
                                                 {"</tool_call>", true},
                                                 {"<|im_end|>", true}}) {
    parser->Push({text, special, special}, deltas);
  }
  parser->Finish(EndReason::kStop, deltas);
  FinalMessage message;
  AddDeltas(message, deltas);
  EXPECT_EQ(Describe(message),
            R"(content=<tool_call>x reasoning=a</think>b call=write{"path": "<think>"})");
}

TEST(SpecialTokens, OnesThatAreShownAreTextWhereTheyAreNoMarkers) {
  ParseCase options = Case(CallFormat::kHermes, ReasoningFormat::kNone);
  options.special_tokens = {"<tool_call>", "<|fim|>", "<|end|>"};
  const auto parser = MakeParser(options);
  std::vector<ChatDelta> deltas;
  parser->Push({"<|fim|>", /*is_token=*/true}, deltas);
  parser->Push({"<|end|>", /*is_token=*/true, /*is_hidden=*/true}, deltas);
  parser->Push({" x", false}, deltas);
  parser->Finish(EndReason::kStop, deltas);
  FinalMessage message;
  AddDeltas(message, deltas);
  EXPECT_EQ(message.content, "<|fim|> x");
}

TEST(SpecialTokens, DsmlIsPartOfATag) {
  ParseCase options = Case(CallFormat::kDeepseekV4, ReasoningFormat::kDeepseekV4);
  options.special_tokens = {"｜DSML｜"};
  const auto parser = MakeParser(options);
  std::vector<ChatDelta> deltas;
  for (const char* text : {"<｜DSML｜tool_calls> is text\n<", "|", "tool_calls>\n<", "|",
                           "invoke name=\"bare\">\n</", "|", "invoke>\n</", "|", "tool_calls>"}) {
    const bool special = std::string_view(text) == "|";
    parser->Push({special ? "｜DSML｜" : text, special}, deltas);
  }
  parser->Finish(EndReason::kStop, deltas);
  FinalMessage message;
  AddDeltas(message, deltas);
  EXPECT_EQ(Describe(message), "content=<｜DSML｜tool_calls> is text\n reasoning= call=bare{}");
}

TEST(Message, AsJson) {
  const auto json = [](const FinalMessage& message) {
    std::string out;
    AppendMessageJson(out, message);
    return out;
  };
  EXPECT_EQ(json({}), R"({"role":"assistant","content":""})");
  EXPECT_EQ(json({"", "r", {}}), R"({"role":"assistant","content":null,"reasoning_content":"r"})");
  EXPECT_EQ(json({"ü", "", {{"call_1", "f", "{}"}}}),
            R"({"role":"assistant","content":"ü","tool_calls":[{"id":"call_1","type":"function",)"
            R"("function":{"name":"f","arguments":"{}"}}]})");
  std::string out;
  AppendDeltaJson(out, {ChatDelta::Kind::kCallStart, "f", 1, "call_x"});
  AppendDeltaJson(out, {ChatDelta::Kind::kCallArguments, "{\"", 1, ""});
  EXPECT_EQ(out,
            R"({"tool_calls":[{"index":1,"id":"call_x","type":"function","function":{"name":"f",)"
            R"("arguments":""}}]}{"tool_calls":[{"index":1,"function":{"arguments":"{\""}}]})");
}

TEST(Message, RandomIdsDiffer) {
  ParserOptions options;
  options.format = CallFormat::kHermes;
  const auto parser = OutputParser::Make(options);
  std::vector<ChatDelta> deltas;
  const std::string call = "<tool_call>{\"name\":\"f\"}</tool_call>";
  parser->Push({call + call, false}, deltas);
  ASSERT_EQ(deltas.size(), 4U);
  EXPECT_TRUE(deltas[0].id.starts_with("call_"));
  EXPECT_EQ(deltas[0].id.size(), 29U);
  EXPECT_NE(deltas[0].id, deltas[2].id);
}

// Pieces of special tokens and of text, as they come from a tokenizer; U+0001 stands before the
// text of a special token and after it.
std::string ParseTokens(ParseCase options, std::string_view text) {
  std::vector<std::pair<std::string, bool>> pieces;
  bool special = false;
  while (true) {
    const size_t end = std::min(text.find('\x01'), text.size());
    pieces.emplace_back(text.substr(0, end), special);
    if (special) {
      options.special_tokens.push_back(pieces.back().first);
    }
    if (end == text.size()) {
      break;
    }
    text.remove_prefix(end + 1);
    special = !special;
  }
  std::string result;
  for (const size_t size : {size_t{1}, size_t{3}, text.npos}) {
    const auto parser = MakeParser(options);
    FinalMessage message;
    std::vector<ChatDelta> deltas;
    for (const auto& [piece, is_special] : pieces) {
      for (const std::string& part : Cut(piece, is_special ? text.npos : size)) {
        parser->Push({part, is_special, is_special}, deltas);
      }
    }
    parser->Finish(EndReason::kStop, deltas);
    AddDeltas(message, deltas);
    EXPECT_TRUE(result.empty() || result == Describe(message)) << Describe(message);
    result = Describe(message);
  }
  return result;
}

TEST(SpecialTokens, HarmonyMarkersOfOrdinaryTokensAreText) {
  const ParseCase options = Case(CallFormat::kHarmony, ReasoningFormat::kNone);
  EXPECT_EQ(
      ParseTokens(
          options,
          "\x01<|channel|>\x01"
          "analysis\x01<|message|>\x01"
          "no <|call|> or <|channel|>final"
          "\x01<|end|>\x01\x01<|start|>\x01"
          "assistant to=functions.run\x01<|channel|>\x01"
          "commentary \x01<|constrain|>\x01json\x01<|message|>\x01{\"cmd\": \"<|call|><|end|>\"}"
          "\x01<|call|>\x01"),
      "content= reasoning=no <|call|> or <|channel|>final "
      "call=run{\"cmd\": \"<|call|><|end|>\"}");
}

TEST(SpecialTokens, InStringsTheyAreTheirText) {
  EXPECT_EQ(
      ParseTokens(Case(CallFormat::kHermes, ReasoningFormat::kQwen3),
                  "\x01<think>\x01 </think> \x01</think>\x01\x01<tool_call>\x01{\"name\": \"run\", "
                  "\"arguments\": {\"cmd\": \"\x01<tool_call>\x01 \x01</think>\x01\"}}"
                  "\x01</tool_call>\x01</tool_call>"),
      "content=</tool_call> reasoning= </think>  call=run{\"cmd\": \"<tool_call> </think>\"}");
  EXPECT_EQ(ParseTokens(Case(CallFormat::kGemma4, ReasoningFormat::kGemma4),
                        "\x01<|tool_call>\x01"
                        "call:run{cmd:\x01<|\"|>\x01<|\"|> \x01<|tool_call>\x01"
                        "\x01<|\"|>\x01,o:[\x01<|\"|>\x01]\x01<tool_call|>\x01\x01<|\"|>\x01]}"
                        "\x01<tool_call|>\x01<|tool_call>call:f{}"),
            "content=<|tool_call>call:f{} reasoning= "
            "call=run{\"cmd\": \"<|\\\"|> <|tool_call>\", \"o\": [\"]<tool_call|>\"]}");
}

TEST(Interface, SaysWhatIsReasoning) {
  struct Output {
    CallFormat format;
    ReasoningFormat reasoning;
    std::vector<std::string> before;  // reasoning is what comes next after the last of these
    std::vector<std::string> after;
  };
  const std::vector<Output> outputs = {
      {CallFormat::kQwen3Coder, ReasoningFormat::kQwen3, {"<think>", "hm"}, {"</think>", "Hi"}},
      {CallFormat::kQwen3Coder, ReasoningFormat::kQwen3, {"<think>"}, {"\n<function=run>", "x"}},
      {CallFormat::kHarmony,
       ReasoningFormat::kNone,
       {"<|channel|>analysis<|message|>", "hm"},
       {"<|end|>", "<|start|>assistant<|channel|>final<|message|>", "Hi"}},
      {CallFormat::kGemma4,
       ReasoningFormat::kGemma4,
       {"<|channel>", "thought\n", "hm"},
       {"<channel|>", "Hi"}}};
  for (const Output& output : outputs) {
    const auto parser = MakeParser(Case(output.format, output.reasoning));
    std::vector<ChatDelta> deltas;
    EXPECT_FALSE(parser->InReasoning());
    for (const std::string& piece : output.before) {
      parser->Push({piece, false}, deltas);
      EXPECT_TRUE(parser->InReasoning()) << piece;
    }
    for (const std::string& piece : output.after) {
      parser->Push({piece, false}, deltas);
      EXPECT_FALSE(parser->InReasoning()) << piece;
    }
  }
}

TEST(Interface, NamedChoiceReportsOneCallAndNoContent) {
  ParserOptions options;
  options.format = CallFormat::kHermes;
  options.reasoning = ReasoningFormat::kQwen3;
  options.named_call = true;
  options.new_call_id = [] { return std::string("id"); };
  const auto parser = OutputParser::Make(options);
  std::vector<ChatDelta> deltas;
  parser->Push({"<think>hm</think>Well <tool_call>{\"name\": \"f\", ", false}, deltas);
  EXPECT_TRUE(parser->AnyCall());
  EXPECT_FALSE(parser->ShouldStop());
  parser->Push({"\"arguments\": {}}", false}, deltas);
  EXPECT_TRUE(parser->ShouldStop());
  parser->Push({"</tool_call> so <tool_call>{\"name\": \"g\"}</tool_call>", false}, deltas);
  parser->Finish(EndReason::kStop, deltas);
  EXPECT_EQ(Describe(deltas), "r[hm] 0:f a[{] a[}]");
}

TEST(Interface, AnyCallOnlyWhereThereIsOne) {
  const auto parser = MakeParser(Case(CallFormat::kHermes, ReasoningFormat::kNone));
  std::vector<ChatDelta> deltas;
  parser->Push({"<tool_call>{\"na\": oops}</tool_call>", false}, deltas);
  parser->Finish(EndReason::kStop, deltas);
  EXPECT_FALSE(parser->AnyCall());
}

}  // namespace
}  // namespace mach::chat
