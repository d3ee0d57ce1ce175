// Runs output parsers over whole texts, for the tests of the single formats.
#pragma once

#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "chat/final_message.h"
#include "chat/output_parser.h"

namespace mach::chat {

using OrderedJson = nlohmann::ordered_json;

struct ParseCase {
  CallFormat format = CallFormat::kNone;
  ReasoningFormat reasoning = ReasoningFormat::kNone;
  StartsIn starts_in = StartsIn::kContent;
  const OrderedJson* tools = nullptr;
  bool parallel = true;
  EndReason ended = EndReason::kStop;
  std::vector<std::string> special_tokens;
};

struct Parsed {
  FinalMessage message;
  std::string finish_reason;
  std::vector<ChatDelta> deltas;
  bool should_stop = false;
};

// The tools most tests declare: run(cmd string, n integer), write(path string, content string),
// typed(many types), bare (no properties).
const OrderedJson& TestTools();

std::unique_ptr<OutputParser> MakeParser(const ParseCase& options);
Parsed ParsePieces(const ParseCase& options, const std::vector<std::string>& pieces);
Parsed ParseWhole(const ParseCase& options, std::string_view text);

// Pieces of `size` bytes.
std::vector<std::string> Cut(std::string_view text, size_t size);
std::vector<std::string> CutRandomly(std::string_view text, std::mt19937& random);

// A message as one line that shows everything but ids.
std::string Describe(const FinalMessage& message);

// The deltas as one line: c"…" content, r"…" reasoning, NAME( for a call, a"…" arguments.
std::string Describe(const std::vector<ChatDelta>& deltas);

// Parses `text` whole and in many pieces, and expects what every output must have: the same result
// for each split, deltas whose arguments parse only when they are complete, an argument object for
// each call that was not cut off. Returns the result of the whole text.
Parsed ParseChecked(const ParseCase& options, std::string_view text);

}  // namespace mach::chat
