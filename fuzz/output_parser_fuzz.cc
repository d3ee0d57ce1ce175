// Any bytes as model output: the parsers neither crash nor give another result for another split,
// and what they send of a call's arguments parses only once it is complete.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "chat/final_message.h"
#include "chat/output_parser.h"

namespace {

using mach::chat::ChatDelta;
using mach::chat::EndReason;
using mach::chat::FinalMessage;

// Fragments that the formats react to, so that the fuzzer need not find them letter by letter.
constexpr const char* kFragments[] = {"<think>",
                                      "</think>",
                                      "<tool_call>",
                                      "</tool_call>",
                                      "<function=run>",
                                      "</function>",
                                      "<parameter=cmd>",
                                      "<parameter=n>",
                                      "</parameter>",
                                      "\n",
                                      "{\"name\": \"run\", ",
                                      "\"arguments\": {",
                                      "\"cmd\": \"",
                                      "}}",
                                      "<|channel|>",
                                      "<|message|>",
                                      "<|end|>",
                                      "<|start|>",
                                      "<|call|>",
                                      "analysis",
                                      "commentary to=functions.run",
                                      "<｜DSML｜tool_calls>",
                                      "</｜DSML｜tool_calls>",
                                      "<｜DSML｜invoke name=\"run\">",
                                      "</｜DSML｜invoke>",
                                      "<｜DSML｜parameter name=\"cmd\" string=\"true\">",
                                      "</｜DSML｜parameter>",
                                      "\"a\": 1,",
                                      "<｜DSML｜ calls>",
                                      "<｜DSML｜ invoke name=\"run\">",
                                      "<｜DSML｜ parameter name=\"n\" string=\"false\">",
                                      "</｜DSML｜",
                                      "<|tool_call>",
                                      "<tool_call|>",
                                      "call:run{",
                                      "cmd:",
                                      "<|\"|>",
                                      "<|channel>",
                                      "<channel|>",
                                      "thought\n",
                                      "<|constrain|>",
                                      "json",
                                      "｜DSML｜",
                                      "<"};

const nlohmann::ordered_json& Tools() {
  static const auto kTools = nlohmann::ordered_json::parse(
      R"([{"function":{"name":"run","parameters":{"properties":{
          "cmd":{"type":"string"},"n":{"type":["integer","string","object"]}}}}}])");
  return kTools;
}

// Text, or one special token.
struct Piece {
  std::string text;
  bool special = false;
};

// Those of the fragments that vocabularies have as special tokens.
bool IsSpecialToken(std::string_view text) {
  return text == "<think>" || text == "</think>" || text == "<tool_call>" ||
         text == "</tool_call>" || text == "｜DSML｜" || text == "<channel|>" ||
         text == "<tool_call|>" || (text.starts_with("<|") && text.find('>') == text.size() - 1);
}

bool IsJson(const std::string& text) {
  // This parser takes a NUL for the end of its input. Long texts would take it too long.
  return text.size() < 4096 && text.find('\0') == std::string::npos && nlohmann::json::accept(text);
}

std::string Result(uint8_t mode, bool special_tokens, const std::vector<Piece>& pieces,
                   size_t piece_bytes) {
  namespace chat = mach::chat;
  chat::ParserOptions options;
  options.format = static_cast<chat::CallFormat>(mode % 8);
  options.reasoning = static_cast<chat::ReasoningFormat>(mode / 8 % 5);
  options.starts_in = mode % 3 == 0 ? chat::StartsIn::kReasoning : chat::StartsIn::kContent;
  options.tools = &Tools();
  options.new_call_id = [] { return std::string("call"); };
  for (const char* fragment : kFragments) {
    if (special_tokens && IsSpecialToken(fragment)) {
      options.special_tokens.emplace_back(fragment);
    }
  }
  const EndReason ended = mode & 128 ? EndReason::kLength : EndReason::kStop;
  const auto parser = chat::OutputParser::Make(options);
  std::vector<ChatDelta> deltas;
  for (const auto& [text, special] : pieces) {
    const size_t bytes = special ? text.size() : piece_bytes;
    for (size_t at = 0; at < text.size(); at += bytes) {
      parser->Push({std::string_view(text).substr(at, bytes), special, special}, deltas);
    }
  }
  parser->Finish(ended, deltas);
  FinalMessage message;
  for (const ChatDelta& delta : deltas) {
    if (delta.kind == ChatDelta::Kind::kCallArguments &&
        IsJson(message.calls[static_cast<size_t>(delta.index)].arguments)) {
      std::abort();
    }
    chat::AddDeltas(message, std::span(&delta, 1));
  }
  std::string result;
  chat::AppendMessageJson(result, message);
  return result;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) {
    return 0;
  }
  const bool special_tokens = (data[1] & 64) != 0;
  std::vector<Piece> pieces(1);
  for (size_t i = 2; i < size; ++i) {
    constexpr size_t kCount = sizeof(kFragments) / sizeof(kFragments[0]);
    const bool fragment = data[i] >= 128 && data[i] < 128 + kCount && data[1] < 128;
    if (fragment && special_tokens && IsSpecialToken(kFragments[data[i] - 128])) {
      pieces.push_back({kFragments[data[i] - 128], true});
      pieces.emplace_back();
    } else if (fragment) {
      pieces.back().text += kFragments[data[i] - 128];
    } else {
      pieces.back().text += static_cast<char>(data[i]);
    }
  }
  const auto result = [&](size_t piece_bytes) {
    return Result(data[0], special_tokens, pieces, piece_bytes);
  };
  const std::string whole = result(size * 64);
  if (whole != result(1) || whole != result(data[1] % 16 + 1U)) {
    std::abort();
  }
  return 0;
}
