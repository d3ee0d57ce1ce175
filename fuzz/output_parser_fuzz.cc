// Any bytes as model output: the parsers neither crash nor give another result for another split,
// and what they send of a call's arguments parses only once it is complete.
#include <cstdint>
#include <cstdlib>
#include <string>
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
                                      "<|constrain|>json",
                                      "<"};

const nlohmann::ordered_json& Tools() {
  static const auto kTools = nlohmann::ordered_json::parse(
      R"([{"function":{"name":"run","parameters":{"properties":{
          "cmd":{"type":"string"},"n":{"type":["integer","string","object"]}}}}}])");
  return kTools;
}

std::string Result(uint8_t mode, const std::string& text, size_t piece_bytes) {
  namespace chat = mach::chat;
  chat::ParserOptions options;
  options.format = static_cast<chat::CallFormat>(mode % 8);
  options.reasoning = static_cast<chat::ReasoningFormat>(mode / 8 % 5);
  options.starts_in = mode % 3 == 0 ? chat::StartsIn::kReasoning : chat::StartsIn::kContent;
  options.tools = &Tools();
  options.new_call_id = [] { return std::string("call"); };
  const EndReason ended = mode & 128 ? EndReason::kLength : EndReason::kStop;
  const auto parser = chat::OutputParser::Make(options);
  std::vector<ChatDelta> deltas;
  for (size_t at = 0; at < text.size(); at += piece_bytes) {
    parser->Push({std::string_view(text).substr(at, piece_bytes), false}, deltas);
  }
  parser->Finish(ended, deltas);
  FinalMessage message;
  for (const ChatDelta& delta : deltas) {
    if (delta.kind == ChatDelta::Kind::kCallArguments &&
        message.calls[static_cast<size_t>(delta.index)].arguments.size() < 4096 &&
        nlohmann::json::accept(message.calls[static_cast<size_t>(delta.index)].arguments)) {
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
  std::string text;
  for (size_t i = 2; i < size; ++i) {
    constexpr size_t kCount = sizeof(kFragments) / sizeof(kFragments[0]);
    if (data[i] >= 128 && data[i] < 128 + kCount && data[1] < 128) {
      text += kFragments[data[i] - 128];
    } else {
      text += static_cast<char>(data[i]);
    }
  }
  const std::string whole = Result(data[0], text, text.size() + 1);
  if (whole != Result(data[0], text, 1) || whole != Result(data[0], text, data[1] % 16 + 1U)) {
    std::abort();
  }
  return 0;
}
