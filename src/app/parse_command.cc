// mach parse: the output parsers alone, on text from stdin.
#include <charconv>
#include <cstdio>
#include <iostream>
#include <iterator>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "api/errors.h"
#include "api/json_text.h"
#include "app/command.h"
#include "base/error.h"
#include "base/hash.h"
#include "chat/final_message.h"
#include "chat/output_parser.h"
#include "platform/file.h"

namespace mach::app {
namespace {

struct ParseOptions {
  std::string format;
  std::string reasoning = "none";
  std::string starts_in = "content";
  std::string tools_path;
  bool parallel_calls = true;
  std::string ended = "stop";
  std::string split = "whole";
};

// The model's own end tokens are never shown; here they are text.
std::string_view WithoutEndToken(std::string_view text) {
  for (const std::string_view token : {"<|im_end|>", "<|endoftext|>", "<｜end▁of▁sentence｜>"}) {
    if (text.ends_with(token)) {
      return text.substr(0, text.size() - token.size());
    }
  }
  return text;
}

// Length of the first piece of `text`, which is not empty.
size_t PieceLength(std::string_view text, const std::string& split, size_t bytes) {
  if (split == "line") {
    return std::min(text.find('\n'), text.size() - 1) + 1;
  }
  if (split == "char") {
    size_t length = 1;
    while (length < text.size() && (static_cast<unsigned char>(text[length]) & 0xC0) == 0x80) {
      ++length;
    }
    return length;
  }
  return std::min(bytes, text.size());
}

size_t SplitBytes(const std::string& split, size_t text_bytes) {
  if (split == "whole" || split == "line" || split == "char") {
    return std::max<size_t>(text_bytes, 1);
  }
  if (split == "byte") {
    return 1;
  }
  size_t bytes = 0;
  const auto [end, error] = std::from_chars(split.data(), split.data() + split.size(), bytes);
  if (error != std::errc() || end != split.data() + split.size() || bytes == 0) {
    throw Error(ErrorCode::kInvalidArgument, "--split " + split + " is no way to cut text",
                "use whole, line, byte, char or a number of bytes");
  }
  return bytes;
}

nlohmann::ordered_json ReadTools(const std::string& path) {
  nlohmann::ordered_json tools;
  try {
    tools = api::ParseJson(ReadWholeFile(path));
  } catch (const api::RequestError& error) {
    throw Error(ErrorCode::kInvalidArgument, path + ": " + error.info().message);
  }
  if (!tools.is_array()) {
    throw Error(ErrorCode::kInvalidArgument, path + " does not hold a JSON array",
                "it must be what a request has as `tools`");
  }
  return tools;
}

int RunParse(const ParseOptions& options) {
  const std::string input(std::istreambuf_iterator<char>(std::cin), {});
  std::string_view text = WithoutEndToken(input);
  const size_t bytes = SplitBytes(options.split, text.size());
  nlohmann::ordered_json tools;
  if (!options.tools_path.empty()) {
    tools = ReadTools(options.tools_path);
  }
  // Ids depend on the text alone, so that runs with different splits can be compared whole.
  const uint64_t hash = Hash64(std::as_bytes(std::span(input)));
  int calls = 0;
  chat::ParserOptions parser_options;
  parser_options.format = *chat::CallFormatFromName(options.format);
  parser_options.reasoning = *chat::ReasoningFormatFromName(options.reasoning);
  parser_options.starts_in =
      options.starts_in == "reasoning" ? chat::StartsIn::kReasoning : chat::StartsIn::kContent;
  parser_options.tools = &tools;
  parser_options.parallel_tool_calls = options.parallel_calls;
  parser_options.new_call_id = [&] {
    char id[40];
    std::snprintf(id, sizeof(id), "call_%016llx%04d", static_cast<unsigned long long>(hash),
                  calls++);
    return std::string(id);
  };
  const auto parser = chat::OutputParser::Make(parser_options);
  std::vector<chat::ChatDelta> deltas;
  while (!text.empty()) {
    const size_t length = PieceLength(text, options.split, bytes);
    parser->Push({text.substr(0, length), false}, deltas);
    text.remove_prefix(length);
  }
  const chat::EndReason ended =
      options.ended == "length" ? chat::EndReason::kLength : chat::EndReason::kStop;
  parser->Finish(ended, deltas);

  chat::FinalMessage message;
  chat::AddDeltas(message, deltas);
  message = chat::FinishedMessage(std::move(message), *parser);
  std::string out = "{\"deltas\":[";
  for (size_t i = 0; i < deltas.size(); ++i) {
    out += i > 0 ? "," : "";
    chat::AppendDeltaJson(out, deltas[i]);
  }
  out += "],\"message\":";
  chat::AppendMessageJson(out, message);
  out += ",\"finish_reason\":\"";
  out += chat::FinishReason(message, ended);
  out += "\"}\n";
  std::fwrite(out.data(), 1, out.size(), stdout);
  return kExitOk;
}

}  // namespace

Command AddParse(CLI::App& root) {
  auto options = std::make_shared<ParseOptions>();
  CLI::App* app = root.add_subcommand(
      "parse", "Read model output on stdin, print the chat deltas and the message as JSON");
  app->add_option("--format", options->format, "How the model writes tool calls")
      ->required()
      ->check(CLI::IsMember({"qwen3_coder", "qwen3_xml", "hermes", "harmony", "deepseek_v4",
                             "deepseek_v32", "none"}));
  app->add_option("--reasoning", options->reasoning, "How the model marks its reasoning")
      ->check(CLI::IsMember({"qwen3", "deepseek_r1", "deepseek_v4", "none"}))
      ->capture_default_str();
  app->add_option("--starts-in", options->starts_in, "What the prompt left open")
      ->check(CLI::IsMember({"reasoning", "content"}))
      ->capture_default_str();
  app->add_option("--tools", options->tools_path, "File with the request's `tools` array");
  app->add_option("--parallel-tool-calls", options->parallel_calls,
                  "false reports the first call only")
      ->check(CLI::IsMember({"true", "false"}))
      ->capture_default_str();
  app->add_option("--ended", options->ended, "Why generation ended")
      ->check(CLI::IsMember({"stop", "length"}))
      ->capture_default_str();
  app->add_option("--split", options->split,
                  "Pieces that the parser gets: whole, line, byte, char or a number of bytes")
      ->capture_default_str();
  app->footer(
      "Special tokens are read as their text; one end token at the very end of the input is\n"
      "dropped. Call ids are made from the input.");
  return {app, [options] { return RunParse(*options); }};
}

}  // namespace mach::app
