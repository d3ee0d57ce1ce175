// mach parse: the output parsers alone, on text from stdin.
#include <algorithm>
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
#include "chat/detect.h"
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
  std::string special_tokens_path;
  std::string detect_path;
  std::string model_type;
  bool pieces = false;
  bool parallel_calls = true;
  std::string ended = "stop";
  std::string split = "whole";
};

// The model's own end tokens are never shown; here they are text.
std::string_view WithoutEndToken(std::string_view text) {
  for (const std::string_view token :
       {"<|im_end|>", "<|endoftext|>", "<｜end▁of▁sentence｜>", "<turn|>", "<|tool_response>"}) {
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

nlohmann::ordered_json ReadArray(const std::string& path, const char* hint) {
  nlohmann::ordered_json array;
  try {
    array = api::ParseJson(ReadWholeFile(path));
  } catch (const api::RequestError& error) {
    throw Error(ErrorCode::kInvalidArgument, path + ": " + error.info().message);
  }
  if (!array.is_array()) {
    throw Error(ErrorCode::kInvalidArgument, path + " does not hold a JSON array", hint);
  }
  return array;
}

std::vector<std::string> ReadSpecialTokens(const std::string& path) {
  std::vector<std::string> tokens;
  for (const auto& token : ReadArray(path, "it must be an array of strings")) {
    if (!token.is_string()) {
      throw Error(ErrorCode::kInvalidArgument, path + " holds something that is no string");
    }
    tokens.push_back(token.get<std::string>());
  }
  return tokens;
}

struct Piece {
  std::string text;
  bool special = false;
};

// A line for each piece, as {"text":"…","special":true}.
std::vector<Piece> ReadPieces(std::string_view input) {
  std::vector<Piece> pieces;
  while (!input.empty()) {
    const size_t end = std::min(input.find('\n'), input.size());
    const auto line = nlohmann::json::parse(input.substr(0, end), nullptr, false);
    input.remove_prefix(std::min(end + 1, input.size()));
    const auto text = line.is_object() ? line.find("text") : line.end();
    if (text == line.end() || !text->is_string()) {
      throw Error(ErrorCode::kInvalidArgument,
                  "line " + std::to_string(pieces.size() + 1) + " of the input is no piece",
                  "a piece is {\"text\": \"…\", \"special\": true or false}");
    }
    const auto special = line.find("special");
    pieces.push_back({text->get<std::string>(), special != line.end() && *special == true});
  }
  return pieces;
}

int RunDetect(const ParseOptions& options) {
  const chat::Formats formats =
      chat::DetectFormats(ReadWholeFile(options.detect_path), options.model_type);
  const nlohmann::ordered_json out = {{"format", chat::NameOf(formats.call)},
                                      {"reasoning", chat::NameOf(formats.reasoning)}};
  std::puts(out.dump().c_str());
  return kExitOk;
}

int RunParse(const ParseOptions& options) {
  if (!options.detect_path.empty()) {
    return RunDetect(options);
  }
  if (options.format.empty()) {
    throw Error(ErrorCode::kInvalidArgument, "--format is missing", "it or --detect must be given");
  }
  const std::string input(std::istreambuf_iterator<char>(std::cin), {});
  const std::vector<Piece> pieces = options.pieces
                                        ? ReadPieces(input)
                                        : std::vector<Piece>{{std::string(WithoutEndToken(input))}};
  const size_t bytes = SplitBytes(options.split, input.size());
  nlohmann::ordered_json tools;
  if (!options.tools_path.empty()) {
    tools = ReadArray(options.tools_path, "it must be what a request has as `tools`");
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
  if (!options.special_tokens_path.empty()) {
    parser_options.special_tokens = ReadSpecialTokens(options.special_tokens_path);
  }
  parser_options.new_call_id = [&] {
    char id[40];
    std::snprintf(id, sizeof(id), "call_%016llx%04d", static_cast<unsigned long long>(hash),
                  calls++);
    return std::string(id);
  };
  const auto parser = chat::OutputParser::Make(parser_options);
  std::vector<chat::ChatDelta> deltas;
  for (const Piece& piece : pieces) {
    std::string_view text = piece.text;
    while (!text.empty()) {
      const size_t length = piece.special ? text.size() : PieceLength(text, options.split, bytes);
      parser->Push({text.substr(0, length), piece.special, piece.special}, deltas);
      text.remove_prefix(length);
    }
  }
  const chat::EndReason ended =
      options.ended == "length" ? chat::EndReason::kLength : chat::EndReason::kStop;
  parser->Finish(ended, deltas);

  chat::FinalMessage message;
  chat::AddDeltas(message, deltas);
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
      ->check(CLI::IsMember(chat::CallFormatNames()));
  app->add_option("--reasoning", options->reasoning, "How the model marks its reasoning")
      ->check(CLI::IsMember(chat::ReasoningFormatNames()))
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
  app->add_flag("--pieces", options->pieces,
                "Read a line for each piece: {\"text\": \"…\", \"special\": true}");
  app->add_option("--special-tokens", options->special_tokens_path,
                  "File with an array of the texts of special tokens, which only pieces that are "
                  "special can be");
  app->add_option("--detect", options->detect_path,
                  "Instead of parsing, print the formats of the chat template in this file");
  app->add_option("--model-type", options->model_type,
                  "With --detect: `model_type` of config.json");
  app->footer(
      "Without --pieces special tokens are read as their text, and one end token at the very end\n"
      "of the input is dropped. Call ids are made from the input.");
  return {app, [options] { return RunParse(*options); }};
}

}  // namespace mach::app
