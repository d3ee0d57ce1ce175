// Outputs of all formats and variants of them: cut off, misspelled, doubled, with other line ends.
#include <algorithm>
#include <cstdint>
#include <set>

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

struct Output {
  CallFormat format;
  ReasoningFormat reasoning;
  std::string text;
  StartsIn starts_in = StartsIn::kReasoning;
};

ParseCase Case(const Output& output, EndReason ended) {
  ParseCase options = Case(output.format, output.reasoning, output.starts_in);
  options.ended = ended;
  return options;
}

// What formats react to; a variant changes one of them.
constexpr std::string_view kMarkers[] = {"<think>",
                                         "</think>",
                                         "<tool_call>",
                                         "</tool_call>",
                                         "<function=",
                                         "</function>",
                                         "<parameter=",
                                         "</parameter>",
                                         "<|start|>",
                                         "<|channel|>",
                                         "<|constrain|>",
                                         "<|message|>",
                                         "<|end|>",
                                         "<|call|>",
                                         "<|return|>",
                                         "｜DSML｜",
                                         "invoke",
                                         "<|tool_call>",
                                         "<tool_call|>",
                                         "<|\"|>",
                                         "<|channel>",
                                         "<channel|>",
                                         "{",
                                         "}",
                                         "\""};

std::vector<Output> Corpus() {
  const std::string nested =
      "<tool_call>\n<function=write>\n<parameter=path>\nü/文\n</parameter>\n<parameter=content>\n"
      "<tool_call>\n<function=run>\n<parameter=cmd>\nls\n</parameter>\n</function>\n</tool_call>\n"
      "</parameter>\n</function>\n</tool_call>\nend";
  const auto dsml = [](const std::string& space, const std::string& wrapper) {
    const std::string open = "<｜DSML｜" + space;
    const std::string close = "</｜DSML｜" + space;
    return "x</think>\n\n" + open + wrapper + ">\n" + open + "invoke name=\"run\">\n" + open +
           "parameter name=\"cmd\" string=\"true\">a<b>\n👩‍💻" + close + "parameter>\n" +
           open + "parameter name=\"n\" string=\"false\">3\n" + open +
           "parameter name=\"o\" string=\"false\">{\"k\": [1]}" + close + "invoke>\n" + open +
           "invoke name=\"run\">\n" + open +
           "parameter name=\"input\" string=\"false\">{\"n\": \"5\"}" + close + "parameter>\n" +
           close + "invoke>\n" + close + wrapper + ">\nbye";
  };
  const ReasoningFormat qwen3 = ReasoningFormat::kQwen3;
  const ReasoningFormat deepseek = ReasoningFormat::kDeepseekV4;
  return {
      {CallFormat::kQwen3Coder, qwen3, "<think>a < b</think>\n\nHi " + nested},
      {CallFormat::kQwen3Coder, qwen3, "think" + nested + nested},
      {CallFormat::kQwen3Coder, qwen3,
       "</think>\n<function=run>\n<parameter=n>\n 7 \n<parameter=cmd>\n日本\n</parameter>\n"
       "</function>\n<function=bare>\n</function>\n</tool_call>"},
      {CallFormat::kHermes, qwen3,
       "Hm</think>\n<tool_call>\n{\"arguments\": {\"cmd\": \"a\\n\\ud83d\\ude00</tool_call>\", "
       "\"n\": [1, {\"x\": 2.50}], \"z\": 12}, \"name\": \"run\"}\n</tool_call> and <tool_call>{\"a"
       "</tool_call>\n<tool_call>{\"name\": \"f\", \"arguments\": \"{\\\"k\\\": "
       "1}\"}</tool_call>x"},
      {CallFormat::kHermes, qwen3,
       "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": oops}}</tool_call>ok"},
      {CallFormat::kHermes, qwen3,
       "</think>é\n<tool_call>\n{\"name\": \"run\", \"arguments\": {\"cmd\": \"{\", \"n\": 1,},\n"
       "</tool_call>\n<tool_call>\n{\"name\": \"bare\"}}}\n</tool_call>"},
      {CallFormat::kHarmony, ReasoningFormat::kNone,
       "<|channel|>analysis<|message|>think ü<|end|><|start|>assistant<|channel|>commentary "
       "to=functions.run <|constrain|>json<|message|>{\"cmd\": \"l<|s\", \"n\": 1}\n<|call|>x"},
      {CallFormat::kHarmony, ReasoningFormat::kNone,
       " to=run<|channel|>analysis code<|message|>no json<|end|><|channel|>final<|message|>Hi"
       "<|end|><|start|>assistant<|channel|>wat ever<|message|>there<|return|>"},
      {CallFormat::kHarmony, ReasoningFormat::kNone,
       "<|channel|>commentary<|constrain|>json to=run<|message|>{\"o\": {\"k\": null}, \"cmd\": "
       "\"文\"}"
       "<|call|><|start|>assistant<|channel|>final<|message|>a\nb<|return|>"},
      {CallFormat::kDeepseekV4, deepseek, dsml("", "tool_calls")},
      {CallFormat::kDeepseekV32, deepseek, dsml("", "function_calls")},
      {CallFormat::kDeepseekV41, deepseek, dsml(" ", "calls")},
      {CallFormat::kGemma4, ReasoningFormat::kGemma4,
       "<|channel>thought\nhm\n<channel|>Hi <|tool_call>call:run{cmd:<|\"|>a {b},<c> "
       "文\n<|\"|>,n:3,"
       "o:{x y:[1,<|\"|>z]<|\"|>,{}],w:\"q\"}}<tool_call|><|tool_call>call:bare{}<tool_call|>bye",
       StartsIn::kContent},
      {CallFormat::kGemma4, ReasoningFormat::kGemma4,
       "so<channel|><|tool_call>call:typed{b:True,s:plain text,a:[<|\"|>1<|\"|>]}<tool_call|>"}};
}

// The same result for each split, orderly deltas, and nothing of a call in the text around it.
void ExpectSplitInvariant(const Output& output, EndReason ended) {
  const ParseCase options = Case(output, ended);
  const std::string whole = Describe(ParseWhole(options, output.text).message);
  std::mt19937 random(3);
  for (const auto& pieces :
       {Cut(output.text, 1), Cut(output.text, 3), CutRandomly(output.text, random)}) {
    ASSERT_EQ(Describe(ParsePieces(options, pieces).message), whole) << output.text;
  }
}

bool WritesArgumentsAsTheyAre(CallFormat format) {
  return format == CallFormat::kHermes || format == CallFormat::kHarmony;
}

TEST(Corpus, CutOffAnywhere) {
  for (const Output& output : Corpus()) {
    for (size_t length = 0; length <= output.text.size(); ++length) {
      for (const EndReason ended : {EndReason::kStop, EndReason::kLength}) {
        Output cut = output;
        cut.text.resize(length);
        ExpectSplitInvariant(cut, ended);
        const Parsed whole = ParseWhole(Case(cut, ended), cut.text);
        for (const ToolCall& call : whole.message.calls) {
          if (ended == EndReason::kStop && !WritesArgumentsAsTheyAre(output.format)) {
            ASSERT_TRUE(OrderedJson::accept(call.arguments)) << cut.text << '\n' << call.arguments;
          }
        }
        if (ended == EndReason::kLength && !whole.message.calls.empty()) {
          EXPECT_EQ(whole.finish_reason, "length");
        }
      }
    }
  }
}

// Each marker misspelled, missing and doubled where it stands.
TEST(Corpus, BrokenMarkers) {
  std::set<std::string> seen;
  for (const Output& output : Corpus()) {
    for (const std::string_view marker : kMarkers) {
      for (size_t at = output.text.find(marker); at != std::string::npos;
           at = output.text.find(marker, at + 1)) {
        const std::string before = output.text.substr(0, at);
        const std::string after = output.text.substr(at + marker.size());
        const std::string spelled(marker);
        for (const std::string& other :
             {std::string(), spelled + spelled, spelled.substr(0, spelled.size() / 2),
              spelled.substr(spelled.size() / 2), "\n" + spelled + " "}) {
          Output variant = output;
          variant.text = before + other + after;
          if (seen.insert(variant.text).second) {
            ParseChecked(Case(variant, EndReason::kStop), variant.text);
            ExpectSplitInvariant(variant, EndReason::kLength);
          }
        }
      }
    }
  }
  EXPECT_GE(seen.size(), 200U);
}

TEST(Corpus, LineEndsNestingAndNeighbours) {
  for (const Output& output : Corpus()) {
    std::string crlf;
    for (const char c : output.text) {
      crlf += c == '\n' ? "\r\n" : std::string(1, c);
    }
    for (const Output& other : Corpus()) {
      for (const std::string& text : {output.text + other.text, crlf + other.text,
                                      output.text.substr(0, output.text.size() / 2) + other.text,
                                      output.text.substr(0, output.text.size() / 2) + other.text +
                                          output.text.substr(output.text.size() / 2)}) {
        Output variant = output;
        variant.text = text;
        ExpectSplitInvariant(variant, EndReason::kStop);
      }
    }
  }
}

// What opens a call or ends reasoning is never shown, however early generation ends.
TEST(Corpus, NoMarkerIsShown) {
  for (const Output& output : Corpus()) {
    if (output.text.find("oops") != std::string::npos ||
        output.text.find(" and <tool_call>{\"a<") != std::string::npos) {
      continue;  // holds what is no call
    }
    for (size_t length = 0; length <= output.text.size(); ++length) {
      if ((static_cast<uint8_t>(output.text.c_str()[length]) & 0xC0) == 0x80) {
        continue;  // inside a character
      }
      const Parsed parsed =
          ParseWhole(Case(output, EndReason::kLength), output.text.substr(0, length));
      for (const std::string* text : {&parsed.message.content, &parsed.message.reasoning}) {
        for (const std::string_view marker : kMarkers) {
          ASSERT_TRUE(marker.size() < 5 || marker == "invoke" ||
                      text->find(marker) == std::string::npos)
              << *text << '\n'
              << output.text.substr(0, length);
        }
      }
    }
  }
}

struct Streamed {
  CallFormat format;
  std::string opening;  // as far as the name is known
  std::string before;   // the value of a string
  std::string after;
};

const std::vector<Streamed>& StreamedCalls() {
  static const std::vector<Streamed> kCalls = {
      {CallFormat::kQwen3Coder, "<tool_call>\n<function=write>", "\n<parameter=content>\n",
       "\n</parameter>\n</function>\n</tool_call>"},
      {CallFormat::kHermes, "<tool_call>\n{\"name\": \"write\"",
       ", \"arguments\": {\"content\": \"", "\"}}\n</tool_call>"},
      {CallFormat::kHarmony,
       "<|channel|>commentary to=functions.write <|constrain|>json<|message|>", "{\"content\": \"",
       "\"}<|call|>"},
      {CallFormat::kDeepseekV4, "<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"write\">",
       "\n<｜DSML｜parameter name=\"content\" string=\"true\">",
       "</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>"},
      {CallFormat::kDeepseekV32, "<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"write\">",
       "\n<｜DSML｜parameter name=\"content\" string=\"true\">",
       "</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜function_calls>"},
      {CallFormat::kDeepseekV41, "<｜DSML｜ calls>\n<｜DSML｜ invoke name=\"write\">",
       "\n<｜DSML｜ parameter name=\"content\" string=\"true\">",
       "</｜DSML｜ parameter>\n</｜DSML｜ invoke>\n</｜DSML｜ calls>"},
      {CallFormat::kGemma4, "<|tool_call>call:write{", "content:<|\"|>", "<|\"|>}<tool_call|>"}};
  return kCalls;
}

TEST(Streaming, NameLeavesAsSoonAsItIsKnown) {
  for (const Streamed& call : StreamedCalls()) {
    const auto parser = MakeParser(Case(call.format, ReasoningFormat::kNone));
    std::vector<ChatDelta> deltas;
    for (const std::string& piece : Cut(call.opening, 1)) {
      EXPECT_TRUE(deltas.empty());
      parser->Push({piece, false}, deltas);
    }
    EXPECT_EQ(Describe(deltas), "0:write");
  }
}

TEST(Streaming, StringsLeaveAsTheyCome) {
  constexpr size_t kBytes = 4096;
  constexpr size_t kPieceBytes = 12;
  std::string value;
  while (value.size() < kBytes) {
    value += "if a < b: print('café')  # ";
  }
  for (const Streamed& call : StreamedCalls()) {
    const auto parser = MakeParser(Case(call.format, ReasoningFormat::kNone));
    std::vector<ChatDelta> deltas;
    parser->Push({call.opening + call.before, false}, deltas);
    const size_t before = deltas.size();
    for (const std::string& piece : Cut(value, kPieceBytes)) {
      parser->Push({piece, false}, deltas);
    }
    EXPECT_GT(deltas.size() - before, value.size() / kPieceBytes / 2);
    parser->Push({call.after, false}, deltas);
    parser->Finish(EndReason::kStop, deltas);
    FinalMessage message;
    AddDeltas(message, deltas);
    EXPECT_EQ(message.content, "");
    EXPECT_EQ(OrderedJson::parse(message.calls.at(0).arguments).at("content"), value);
  }
}

// Eight times the text may cost eight times as much, not sixty-four times.
TEST(Corpus, LinearTime) {
  constexpr size_t kSmallBytes = 16'000;
  constexpr size_t kFactor = 8;
  struct Text {
    CallFormat format;
    std::string start;
    std::string repeated;
  };
  const std::string open_value = "<tool_call>\n<function=write>\n<parameter=content>\n";
  const std::string open_invoke = "<｜DSML｜tool_calls><｜DSML｜invoke name=\"f\">";
  std::vector<Text> texts = {
      {CallFormat::kQwen3Coder, "", "<tool_call>"},
      {CallFormat::kQwen3Coder, open_value, "<"},
      {CallFormat::kQwen3Coder, open_value, "</parameter>\n"},
      {CallFormat::kQwen3Coder, open_value, "\n<parameter=x>"},
      {CallFormat::kQwen3Coder, open_value, "</tool_call>\n"},
      {CallFormat::kHermes, "", "<tool_call>"},
      {CallFormat::kHermes, "", "<tool_call>{\"a</tool_call>"},
      {CallFormat::kHermes, "", "<tool_call>{\""},
      {CallFormat::kHermes, "<tool_call>{\"name\":\"", "x"},
      {CallFormat::kHermes, "<tool_call>{\"name\":\"f\"}", "}"},
      {CallFormat::kHermes, "<tool_call>{\"name\":\"f\", x", "<"},
      {CallFormat::kHarmony, "", "<|channel|>"},
      {CallFormat::kDeepseekV4, "<｜DSML｜tool_calls>", "<｜DSML｜invoke "},
      {CallFormat::kDeepseekV4, open_invoke, "x <"},
      {CallFormat::kDeepseekV4, open_invoke, "<｜DSML｜parameter "},
      {CallFormat::kGemma4, "<|tool_call>call:f{a:", "["},
      {CallFormat::kGemma4, "<|tool_call>call:f{", "a<"},
      {CallFormat::kGemma4, "<|tool_call>call:f{}", "}"},
  };
  for (const std::string& name : CallFormatNames()) {
    texts.push_back({*CallFormatFromName(name), "", "<"});
  }
  const auto seconds = [](const Text& text, size_t bytes, bool in_one_piece) {
    std::string whole = text.start;
    while (whole.size() < bytes) {
      whole += text.repeated;
    }
    const std::vector<std::string> pieces = Cut(whole, in_one_piece ? whole.size() : 1);
    const double begin = testing_support::ThreadCpuSeconds();
    ParsePieces(Case(text.format, ReasoningFormat::kQwen3), pieces);
    return testing_support::ThreadCpuSeconds() - begin;
  };
  for (const Text& text : texts) {
    for (const bool in_one_piece : {false, true}) {
      // The constant is for caches and page faults of runs that take next to nothing. What
      // disturbs a run only makes it longer, so the shortest of some are compared.
      double small = seconds(text, kSmallBytes, in_one_piece);
      double large = seconds(text, kFactor * kSmallBytes, in_one_piece);
      const auto limit = [&] { return 3 * kFactor * small + 0.02; };
      for (int tries = 1; tries < 5 && large >= limit(); ++tries) {
        small = std::min(small, seconds(text, kSmallBytes, in_one_piece));
        large = std::min(large, seconds(text, kFactor * kSmallBytes, in_one_piece));
      }
      EXPECT_LT(large, limit()) << NameOf(text.format) << ' ' << text.start << text.repeated;
    }
  }
}

}  // namespace
}  // namespace mach::chat
