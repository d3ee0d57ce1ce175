// Reasoning, marker holding and special tokens.
#include <algorithm>
#include <array>

#include <gtest/gtest.h>

#include "tests/chat/parsers_support.h"
#include "tests/support/cpu_time.h"

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
    parser->Push({text, special}, deltas);
  }
  parser->Finish(EndReason::kStop, deltas);
  FinalMessage message;
  AddDeltas(message, deltas);
  EXPECT_EQ(Describe(message),
            R"(content=<tool_call>x reasoning=a</think>b call=write{"path": "<think>"})");
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

// Outputs of every kind, cut off at every byte, ended either way.
TEST(Corpus, TruncatedAnywhere) {
  const std::string nested =
      "<tool_call>\n<function=write>\n<parameter=path>\nü/文\n</parameter>\n<parameter=content>\n"
      "<tool_call>\n<function=run>\n<parameter=cmd>\nls\n</parameter>\n</function>\n</tool_call>\n"
      "</parameter>\n</function>\n</tool_call>\nend";
  const std::vector<std::pair<CallFormat, std::string>> corpus = {
      {CallFormat::kQwen3Coder, "<think>a < b</think>\n\nHi " + nested},
      {CallFormat::kQwen3Coder, "think" + nested + nested},
      {CallFormat::kHermes,
       "Hm</think>\n<tool_call>\n{\"arguments\": {\"cmd\": \"a\\n\\ud83d\\ude00</tool_call>\", "
       "\"n\": [1, {\"x\": 2.50}], \"z\": 12}, \"name\": \"run\"}\n</tool_call> and <tool_call>{\"a"
       "</tool_call>\n<tool_call>{\"name\": \"f\", \"arguments\": \"{\\\"k\\\": "
       "1}\"}</tool_call>x"},
      {CallFormat::kHermes,
       "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": oops}}</tool_call>ok"},
      {CallFormat::kHarmony,
       "<|channel|>analysis<|message|>think ü<|end|><|start|>assistant<|channel|>commentary "
       "to=functions.run <|constrain|>json<|message|>{\"cmd\": \"l<|s\", \"n\": 1}\n<|call|>x"},
      {CallFormat::kHarmony,
       " to=run<|channel|>analysis code<|message|>no json<|end|><|channel|>final<|message|>Hi"
       "<|end|><|start|>assistant<|channel|>wat ever<|message|>there<|return|>"},
      {CallFormat::kDeepseekV4,
       "x</think>\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"run\">\n<｜DSML｜parameter "
       "name=\"cmd\" string=\"true\">a<b>\n</｜DSML｜parameter>\n<｜DSML｜parameter name=\"n\" "
       "string=\"false\">3<｜DSML｜parameter name=\"o\" string=\"false\">{\"k\": [1]}"
       "</｜DSML｜invoke>\n<｜DSML｜invoke name=\"run\">\n<｜DSML｜parameter name=\"input\" "
       "string=\"false\">{\"n\": \"5\"}</｜DSML｜parameter>\n</｜DSML｜invoke>\n"
       "</｜DSML｜tool_calls>\nbye"}};
  for (const auto& [format, text] : corpus) {
    for (size_t length = 0; length <= text.size(); ++length) {
      for (const EndReason ended : {EndReason::kStop, EndReason::kLength}) {
        ParseCase options = Case(format, ReasoningFormat::kQwen3, StartsIn::kReasoning);
        options.ended = ended;
        const std::string cut = text.substr(0, length);
        const Parsed whole = ParseWhole(options, cut);
        for (const size_t size : {1, 3}) {
          const Parsed parsed = ParsePieces(options, Cut(cut, size));
          ASSERT_EQ(Describe(parsed.joined), Describe(whole.joined)) << cut;
          ASSERT_EQ(Describe(parsed.message), Describe(whole.message)) << cut;
        }
        for (const ToolCall& call : whole.joined.calls) {
          if (ended == EndReason::kStop && !call.arguments.starts_with("no")) {
            ASSERT_TRUE(OrderedJson::accept(call.arguments)) << cut << '\n' << call.arguments;
          }
        }
        if (ended == EndReason::kLength && !whole.joined.calls.empty()) {
          EXPECT_EQ(whole.finish_reason, "length");
        }
      }
    }
  }
}

// Eight times the text may cost eight times as much, not sixty-four times.
TEST(Corpus, LinearTime) {
  constexpr size_t kSmallBytes = 16'000;
  constexpr size_t kFactor = 8;
  struct Text {
    std::string start;
    std::string repeated;
  };
  const std::string open_value = "<tool_call>\n<function=write>\n<parameter=content>\n";
  const std::vector<Text> texts = {
      {"", "<"},
      {"", "<tool_call>"},
      {open_value, "<"},
      {open_value, "</parameter>\n"},
      {open_value, "\n<parameter=x>"},
      {"", "<tool_call>{\"a</tool_call>"},
      {"<tool_call>{\"name\":\"", "x"},
      {"", "<|channel|>"},
      {"<｜DSML｜tool_calls>", "<｜DSML｜invoke "},
  };
  const auto seconds = [](CallFormat format, const Text& text, size_t bytes, bool in_one_piece) {
    std::string whole = text.start;
    while (whole.size() < bytes) {
      whole += text.repeated;
    }
    const std::vector<std::string> pieces = Cut(whole, in_one_piece ? whole.size() : 1);
    const double begin = testing_support::ThreadCpuSeconds();
    ParsePieces(Case(format, ReasoningFormat::kQwen3), pieces);
    return testing_support::ThreadCpuSeconds() - begin;
  };
  for (const CallFormat format :
       {CallFormat::kNone, CallFormat::kQwen3Coder, CallFormat::kHermes, CallFormat::kHarmony,
        CallFormat::kDeepseekV4, CallFormat::kDeepseekV32}) {
    for (const Text& text : texts) {
      for (const bool in_one_piece : {false, true}) {
        // The constant is for caches and page faults of runs that take next to nothing. What
        // disturbs a run only makes it longer, so the shortest of some are compared.
        double small = seconds(format, text, kSmallBytes, in_one_piece);
        double large = seconds(format, text, kFactor * kSmallBytes, in_one_piece);
        const auto limit = [&] { return 3 * kFactor * small + 0.02; };
        for (int tries = 1; tries < 5 && large >= limit(); ++tries) {
          small = std::min(small, seconds(format, text, kSmallBytes, in_one_piece));
          large = std::min(large, seconds(format, text, kFactor * kSmallBytes, in_one_piece));
        }
        EXPECT_LT(large, limit()) << static_cast<int>(format) << ' ' << text.start << text.repeated;
      }
    }
  }
}

}  // namespace
}  // namespace mach::chat
