// Gemma 4's calls: <|tool_call>call:NAME{key:value,…}<tool_call|>. Values look like JSON whose keys
// have no quotes and whose strings stand between <|"|> tokens, without any escaping.
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "base/json_string.h"
#include "chat/arguments_writer.h"
#include "chat/formats.h"
#include "chat/markup_parser.h"

namespace mach::chat {
namespace {

constexpr size_t kMaxNameBytes = 128;
// A <|"|> in a value that has been read; no text holds this byte.
constexpr char kQuote = kSpecialMark;

bool IsOneOf(char c, std::string_view characters) {
  return characters.find(c) != std::string_view::npos;
}

// A complete value as JSON.
class ValueReader {
 public:
  explicit ValueReader(std::string_view text) : text_(text) {}

  std::string Read() {
    std::string out;
    Value(out, 0);
    return out;
  }

 private:
  static constexpr int kMaxDepth = 64;

  void SkipSpace() {
    while (at_ < text_.size() && IsOneOf(text_[at_], " \t\r\n")) {
      ++at_;
    }
  }

  // The text up to `end`, which is passed over.
  std::string_view UpTo(char end) {
    const size_t start = at_;
    at_ = std::min(text_.find(end, start), text_.size());
    const std::string_view text = text_.substr(start, at_ - start);
    at_ += at_ < text_.size() ? 1 : 0;
    return text;
  }

  // A string in plain quotes, as JSON has them; nullopt, and nothing read, if it is none.
  std::optional<std::string> PlainString() {
    for (size_t end = at_ + 1; end < text_.size(); ++end) {
      if (text_[end] == '"') {
        auto text = UnquoteJson(text_.substr(at_, end + 1 - at_));
        at_ = text ? end + 1 : at_;
        return text;
      }
      end += text_[end] == '\\' ? 1 : 0;
    }
    return std::nullopt;
  }

  // A string in either quotes, or the text up to one of `ends`.
  std::string Text(std::string_view ends, bool& quoted) {
    quoted = true;
    if (at_ < text_.size() && text_[at_] == kQuote) {
      ++at_;
      return std::string(UpTo(kQuote));
    }
    if (at_ < text_.size() && text_[at_] == '"') {
      if (auto text = PlainString()) {
        return std::move(*text);
      }
    }
    quoted = false;
    const size_t start = at_;
    at_ = std::min(text_.find_first_of(ends, start), text_.size());
    return WithoutMarks(TrimSpace(text_.substr(start, at_ - start)));
  }

  void Value(std::string& out, int depth) {
    SkipSpace();
    const char first = at_ < text_.size() ? text_[at_] : '\0';
    if ((first == '{' || first == '[') && depth < kMaxDepth) {
      ++at_;
      Items(out, first == '{', depth + 1);
      return;
    }
    bool quoted = false;
    const std::string text = Text(",]}", quoted);
    if (!quoted && nlohmann::json::accept(text)) {
      out += text;
    } else {
      AppendJsonString(out, text);
    }
  }

  void Items(std::string& out, bool object, int depth) {
    out += object ? '{' : '[';
    bool any = false;
    while (true) {
      SkipSpace();
      if (at_ == text_.size() || IsOneOf(text_[at_], "]}")) {
        at_ += at_ < text_.size() ? 1 : 0;
        out += object ? '}' : ']';
        return;
      }
      if (text_[at_] == ',') {
        ++at_;
        continue;
      }
      out += any ? ", " : "";
      any = true;
      if (object) {
        bool quoted = false;
        AppendJsonString(out, Text(":,]}", quoted));
        out += ": ";
        SkipSpace();
        at_ += at_ < text_.size() && text_[at_] == ':' ? 1 : 0;
      }
      Value(out, depth);
      SkipSpace();
      if (at_ < text_.size() && !IsOneOf(text_[at_], ",]}")) {
        at_ = std::min(text_.find_first_of(",]}", at_), text_.size());
      }
    }
  }

  std::string_view text_;
  size_t at_ = 0;
};

class Gemma4Parser final : public MarkupParser {
 public:
  explicit Gemma4Parser(ParserOptions& options)
      : MarkupParser(options),
        call_open_(Marker("<|tool_call>")),
        call_close_(Marker("<tool_call|>")),
        quote_(Marker("<|\"|>")),
        schemas_(options.tools),
        arguments_(sink_) {}

 protected:
  Opens OpensCall(size_t at) override;
  bool OpenerAt(size_t at) const override { return Match(at, call_open_) == Hit::kFull; }
  bool StepCall() override;
  void EndCall(EndReason ended) override;

 private:
  enum class Part {
    kKey,
    kValueStart,
    kString,      // a parameter that is a string
    kOther,       // or anything else: read whole
    kAfterObject  // braces too many, or the closing tag
  };

  bool StepKey();
  bool StepValueStart();
  bool StepString();
  bool StepOther();
  bool StepAfterObject();
  void EndOther();
  void FinishCall();

  const std::string call_open_;
  const std::string call_close_;
  const std::string quote_;
  const ToolSchemas schemas_;
  ArgumentsWriter arguments_;
  Part part_ = Part::kKey;
  const ToolSchema* tool_ = nullptr;
  std::string text_;        // of a key, or of a value that is no string
  bool in_quotes_ = false;  // within text_
  bool in_plain_quotes_ = false;
  bool item_start_ = false;  // nothing of the innermost value has been read
  bool escaped_ = false;
  size_t depth_ = 0;
};

MarkupParser::Opens Gemma4Parser::OpensCall(size_t at) {
  const Hit open = Match(at, call_open_);
  const size_t word = SkipGap(at + call_open_.size());
  const Hit call = open == Hit::kFull ? Match(word, "call:") : open;
  if (call != Hit::kFull) {
    return call == Hit::kPartial ? Opens::kWait : Opens::kNo;
  }
  const size_t start = word + 5;
  const std::string_view text = std::string_view(in_).substr(start, kMaxNameBytes + 1);
  const size_t end = text.find_first_of("{}<>\"' \t\r\n,:\xFF");
  if (end == std::string_view::npos) {
    return text.size() <= kMaxNameBytes && !at_end_ ? Opens::kWait : Opens::kNo;
  }
  if (text[end] != '{' || end == 0) {
    return Opens::kNo;
  }
  const std::string name(text.substr(0, end));
  tool_ = schemas_.Find(name);
  sink_.OpenCall(name);
  arguments_.Open();
  pos_ = start + end + 1;
  text_.clear();
  in_quotes_ = false;
  part_ = Part::kKey;
  return Opens::kYes;
}

bool Gemma4Parser::StepCall() {
  switch (part_) {
    case Part::kKey:
      return StepKey();
    case Part::kValueStart:
      return StepValueStart();
    case Part::kString:
      return StepString();
    case Part::kOther:
      return StepOther();
    case Part::kAfterObject:
      return StepAfterObject();
  }
  return false;
}

void Gemma4Parser::FinishCall() {
  arguments_.Close();
  sink_.CloseCall();
  part_ = Part::kAfterObject;
}

bool Gemma4Parser::StepKey() {
  while (pos_ < in_.size()) {
    const char c = in_[pos_];
    const Hit quote = Match(pos_, quote_);
    const Hit close = Match(pos_, call_close_);
    if (quote == Hit::kPartial || close == Hit::kPartial) {
      return false;
    }
    if (quote == Hit::kFull) {
      in_quotes_ = !in_quotes_;
      pos_ += quote_.size();
      continue;
    }
    if (!in_quotes_ && (close == Hit::kFull || c == '}' || c == ',')) {
      arguments_.Unread(WithoutMarks(text_));
      text_.clear();
      pos_ += close == Hit::kFull ? 0 : 1;
      if (c != ',') {
        FinishCall();
        return true;
      }
      continue;
    }
    ++pos_;
    if (!in_quotes_ && c == ':' && !TrimSpace(text_).empty()) {
      part_ = Part::kValueStart;
      return true;
    }
    text_ += c;
  }
  return false;
}

bool Gemma4Parser::StepValueStart() {
  const size_t next = SkipGap(pos_);
  const Hit quote = Match(next, quote_);
  if (next == in_.size() || quote == Hit::kPartial) {
    return false;
  }
  const std::string_view written = TrimSpace(text_);
  const std::string key = UnquoteJson(written).value_or(WithoutMarks(written));
  const bool string = quote == Hit::kFull;
  arguments_.BeginValue(key, tool_ == nullptr ? SchemaRef() : tool_->Parameter(key),
                        string ? ValueHint::kString : ValueHint::kJson);
  pos_ = string ? next + quote_.size() : next;
  part_ = string ? Part::kString : Part::kOther;
  text_.clear();
  in_plain_quotes_ = escaped_ = false;
  item_start_ = true;
  depth_ = 0;
  return true;
}

// Whatever stands in a string is the string's, marker or not.
bool Gemma4Parser::StepString() {
  const size_t lead = FindLead(pos_);
  arguments_.Append(std::string_view(in_).substr(pos_, lead - pos_));
  pos_ = lead;
  const Hit quote = Match(lead, quote_);
  if (lead == in_.size() || quote == Hit::kPartial) {
    return false;
  }
  if (quote == Hit::kFull) {
    arguments_.EndValue();
    pos_ += quote_.size();
    part_ = Part::kKey;
    return true;
  }
  arguments_.Append(WithoutMarks(std::string_view(in_).substr(lead, 1)));
  ++pos_;
  return true;
}

void Gemma4Parser::EndOther() {
  const std::string_view value = TrimSpace(text_);
  const bool plain = value.find_first_of("{[\"\xFF") != 0;
  arguments_.Append(plain ? WithoutMarks(value) : ValueReader(value).Read());
  arguments_.EndValue();
  text_.clear();
  part_ = Part::kKey;
}

bool Gemma4Parser::StepOther() {
  while (pos_ < in_.size()) {
    const char c = in_[pos_];
    const Hit quote = Match(pos_, quote_);
    const Hit close = Match(pos_, call_close_);
    if (quote == Hit::kPartial || close == Hit::kPartial) {
      return false;
    }
    if (quote == Hit::kFull && !in_plain_quotes_) {
      in_quotes_ = !in_quotes_;
      item_start_ = false;
      text_ += kQuote;
      pos_ += quote_.size();
      continue;
    }
    const bool structure = !in_quotes_ && !in_plain_quotes_;
    if (close == Hit::kFull && !in_quotes_) {
      EndOther();
      return true;
    }
    if (structure && depth_ == 0 && IsOneOf(c, ",}]")) {
      EndOther();
      pos_ += c == ']' ? 1 : 0;
      return true;
    }
    if (structure && IsOneOf(c, "{[")) {
      ++depth_;
    } else if (structure && IsOneOf(c, "]}")) {
      --depth_;
    }
    if (c == '"' && !in_quotes_ && (in_plain_quotes_ ? !escaped_ : item_start_)) {
      in_plain_quotes_ = !in_plain_quotes_;
    }
    escaped_ = in_plain_quotes_ && c == '\\' && !escaped_;
    item_start_ = IsOneOf(c, "{[,:") || (item_start_ && IsOneOf(c, " \t\r\n"));
    text_ += c == kSpecialMark ? "" : std::string_view(&c, 1);
    ++pos_;
  }
  return false;
}

bool Gemma4Parser::StepAfterObject() {
  const size_t next = SkipGap(pos_);
  const Hit close = Match(next, call_close_);
  if (close == Hit::kPartial) {
    return false;
  }
  if (close == Hit::kNo && next < in_.size() && in_[next] == '}') {
    pos_ = next + 1;
    return true;
  }
  pos_ = close == Hit::kFull ? next + call_close_.size() : pos_;
  LeaveCall();
  return true;
}

void Gemma4Parser::EndCall(EndReason ended) {
  if (part_ == Part::kAfterObject || ended == EndReason::kLength) {
    return;
  }
  if (part_ == Part::kString) {
    arguments_.AbandonValue();
  }
  FinishCall();
}

}  // namespace

std::unique_ptr<OutputParser> MakeGemma4Parser(ParserOptions& options) {
  return std::make_unique<Gemma4Parser>(options);
}

}  // namespace mach::chat
