// Turns what a model writes into what a chat client reads: content, reasoning and tool calls, piece
// by piece as it is generated. One parser for each choice of a response; it knows no model, no
// tokenizer and no socket. Whoever generates owns it; one thread at a time.
//
// The joined result does not depend on how the output was cut into pieces, and nothing that a model
// writes is an error: what is no call is text.
//
//   auto parser = OutputParser::Make({.format = CallFormat::kQwen3Coder, …});
//   for (each token) parser->Push({.text = …}, deltas);
//   parser->Finish(EndReason::kStop, deltas);
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace mach::chat {

enum class CallFormat {
  kNone,
  kQwen3Coder,
  kHermes,
  kHarmony,
  kDeepseekV4,
  kDeepseekV32,
  kDeepseekV41,
  kGemma4
};
enum class ReasoningFormat { kNone, kQwen3, kDeepseekR1, kDeepseekV4, kGemma4 };
enum class StartsIn { kContent, kReasoning };
enum class EndReason { kStop, kLength };

// The names of formats ("qwen3_coder" or "qwen3_xml", "hermes", …), "none" last, and what they
// name; nullopt for others. Of several names the first is the format's own.
std::vector<std::string> CallFormatNames();
std::vector<std::string> ReasoningFormatNames();
std::optional<CallFormat> CallFormatFromName(std::string_view name);
std::optional<ReasoningFormat> ReasoningFormatFromName(std::string_view name);
std::string_view NameOf(CallFormat format);
std::string_view NameOf(ReasoningFormat format);

struct ParserOptions {
  CallFormat format = CallFormat::kNone;
  ReasoningFormat reasoning = ReasoningFormat::kNone;
  // What the rendered prompt left open. Harmony says it itself and ignores this and `reasoning`.
  StartsIn starts_in = StartsIn::kContent;
  // The request's array `tools`, checked by the caller; null = none declared. Only read by Make.
  const nlohmann::ordered_json* tools = nullptr;
  bool parallel_tool_calls = true;  // false: only the first call is reported
  bool named_call = false;          // a named choice: the first call and no content is reported
  // Texts of the vocabulary's added tokens. A marker among them (or the part of a marker that is
  // one) matches only pieces with `is_token`; all others match text.
  std::vector<std::string> special_tokens;
  // Makes an id for each call; empty = random "call_…".
  std::function<std::string()> new_call_id;
};

// A stretch of output: text of ordinary tokens, cut anywhere (even inside a character), or exactly
// one added token with its text.
struct OutputPiece {
  std::string_view text;
  bool is_token = false;
  bool is_hidden = false;  // a token that is not shown where it is no marker
};

// One step of the answer; `text` is never empty.
struct ChatDelta {
  enum class Kind { kContent, kReasoning, kCallStart, kCallArguments };
  Kind kind = Kind::kContent;
  std::string text;   // for kCallStart the function's name
  int32_t index = 0;  // of the call
  std::string id;     // kCallStart only
};

class OutputParser {
 public:
  OutputParser(const OutputParser&) = delete;
  OutputParser& operator=(const OutputParser&) = delete;
  virtual ~OutputParser() = default;

  static std::unique_ptr<OutputParser> Make(ParserOptions options);

  // Appends to `out` what may be shown now. Bytes that are not UTF-8 become U+FFFD.
  virtual void Push(const OutputPiece& piece, std::vector<ChatDelta>& out) = 0;

  // The output ended: releases what was held back. A call that is open is completed with what it
  // has after kStop, and left as unfinished JSON after kLength. Call once, last.
  virtual void Finish(EndReason ended, std::vector<ChatDelta>& out) = 0;

  // The answer is complete: the one call that is wanted, or what its format ends an answer with.
  // Generation may end here; once true it stays so.
  virtual bool ShouldStop() const = 0;

  // Whether a call has been reported.
  virtual bool AnyCall() const = 0;

  // Whether what is generated next is reasoning, as far as that is decided.
  virtual bool InReasoning() const = 0;

  // Those of ParserOptions::special_tokens that it reads as markers, or as parts of them.
  virtual std::span<const std::string> marker_tokens() const = 0;

 protected:
  OutputParser() = default;
};

}  // namespace mach::chat
