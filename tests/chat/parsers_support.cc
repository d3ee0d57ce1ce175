#include "tests/chat/parsers_support.h"

#include <set>
#include <utility>

#include <gtest/gtest.h>

namespace mach::chat {

const OrderedJson& TestTools() {
  static const OrderedJson kTools = OrderedJson::parse(R"json([
    {"type":"function","function":{"name":"run","parameters":{"type":"object","properties":{
      "cmd":{"type":"string"},"n":{"type":"integer"}}}}},
    {"type":"function","function":{"name":"write","parameters":{"type":"object","properties":{
      "path":{"type":"string"},"content":{"type":"string"}}}}},
    {"type":"function","function":{"name":"typed","parameters":{"type":"object",
      "$defs":{"Point":{"type":"object","properties":{"x":{"type":"integer"}}}},
      "properties":{
        "s":{"type":"string"},
        "i":{"type":"integer"},
        "f":{"type":"number"},
        "b":{"type":"boolean"},
        "o":{"type":"object","properties":{"n":{"type":"integer"},"t":{"type":"string"}}},
        "a":{"type":"array","items":{"type":"integer"}},
        "sn":{"type":["string","null"]},
        "si":{"type":["string","integer"]},
        "so":{"anyOf":[{"type":"string"},{"type":"object"}]},
        "e":{"enum":["x",1,null]},
        "c":{"const":7},
        "any":{},
        "p":{"$ref":"#/$defs/Point"},
        "one":{"oneOf":[{"type":"integer"},{"type":"boolean"}]},
        "all":{"allOf":[{"type":"number"}]}}}}},
    {"type":"function","function":{"name":"bare"}}
  ])json");
  return kTools;
}

std::unique_ptr<OutputParser> MakeParser(const ParseCase& options) {
  ParserOptions parser;
  parser.format = options.format;
  parser.reasoning = options.reasoning;
  parser.starts_in = options.starts_in;
  parser.tools = options.tools;
  parser.parallel_tool_calls = options.parallel;
  parser.special_tokens = options.special_tokens;
  parser.new_call_id = [count = 0]() mutable { return "call_" + std::to_string(count++); };
  return OutputParser::Make(std::move(parser));
}

Parsed ParsePieces(const ParseCase& options, const std::vector<std::string>& pieces) {
  const auto parser = MakeParser(options);
  Parsed parsed;
  for (const std::string& piece : pieces) {
    parser->Push({piece, false}, parsed.deltas);
  }
  parser->Finish(options.ended, parsed.deltas);
  AddDeltas(parsed.message, parsed.deltas);
  parsed.finish_reason = FinishReason(parsed.message, options.ended);
  parsed.should_stop = parser->ShouldStop();
  return parsed;
}

Parsed ParseWhole(const ParseCase& options, std::string_view text) {
  return ParsePieces(options, {std::string(text)});
}

std::vector<std::string> Cut(std::string_view text, size_t size) {
  std::vector<std::string> pieces;
  for (; !text.empty(); text.remove_prefix(std::min(size, text.size()))) {
    pieces.emplace_back(text.substr(0, size));
  }
  return pieces;
}

std::vector<std::string> CutRandomly(std::string_view text, std::mt19937& random) {
  std::vector<std::string> pieces;
  std::uniform_int_distribution<size_t> length(0, 9);
  while (!text.empty()) {
    const size_t size = std::min(length(random), text.size());
    pieces.emplace_back(text.substr(0, size));
    text.remove_prefix(size);
  }
  return pieces;
}

std::string Describe(const FinalMessage& message) {
  std::string out = "content=" + message.content + " reasoning=" + message.reasoning;
  for (const ToolCall& call : message.calls) {
    out += " call=" + call.name + call.arguments;
  }
  return out;
}

std::string Describe(const std::vector<ChatDelta>& deltas) {
  std::string out;
  for (const ChatDelta& delta : deltas) {
    out += out.empty() ? "" : " ";
    switch (delta.kind) {
      case ChatDelta::Kind::kContent:
        out += "c[" + delta.text + "]";
        break;
      case ChatDelta::Kind::kReasoning:
        out += "r[" + delta.text + "]";
        break;
      case ChatDelta::Kind::kCallStart:
        out += std::to_string(delta.index) + ":" + delta.text;
        break;
      case ChatDelta::Kind::kCallArguments:
        out += "a[" + delta.text + "]";
        break;
    }
  }
  return out;
}

namespace {

// Section 4: a delta is never empty, a call's name comes once and first, ids differ, and what has
// been sent of the arguments parses only once it is all.
void ExpectOrderlyDeltas(const Parsed& parsed) {
  std::vector<std::string> arguments;
  std::set<std::string> ids;
  for (const ChatDelta& delta : parsed.deltas) {
    EXPECT_FALSE(delta.text.empty());
    if (delta.kind == ChatDelta::Kind::kCallStart) {
      EXPECT_EQ(static_cast<size_t>(delta.index), arguments.size());
      EXPECT_TRUE(ids.insert(delta.id).second);
      arguments.emplace_back();
    } else if (delta.kind == ChatDelta::Kind::kCallArguments) {
      ASSERT_EQ(static_cast<size_t>(delta.index) + 1, arguments.size());
      EXPECT_FALSE(OrderedJson::accept(arguments.back())) << arguments.back();
      arguments.back() += delta.text;
    }
  }
}

}  // namespace

Parsed ParseChecked(const ParseCase& options, std::string_view text) {
  SCOPED_TRACE(std::string(text));
  Parsed whole = ParseWhole(options, text);
  std::mt19937 random(7);
  std::vector<std::vector<std::string>> splits = {Cut(text, 1), Cut(text, 2), Cut(text, 7)};
  for (int i = 0; i < 3; ++i) {
    splits.push_back(CutRandomly(text, random));
  }
  ExpectOrderlyDeltas(whole);
  for (const auto& pieces : splits) {
    const Parsed parsed = ParsePieces(options, pieces);
    EXPECT_EQ(Describe(parsed.message), Describe(whole.message));
    EXPECT_EQ(parsed.should_stop, whole.should_stop);
    ExpectOrderlyDeltas(parsed);
  }
  return whole;
}

}  // namespace mach::chat
