#include "chat/parser_core.h"

#include <algorithm>
#include <cstdint>
#include <utility>

namespace mach::chat {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

enum class Sequence { kValid, kInvalid, kIncomplete };

// Judges the UTF-8 sequence that starts at `text[at]`; `length` is set if it is valid.
Sequence JudgeUtf8(std::string_view text, size_t at, size_t& length) {
  const auto lead = static_cast<uint8_t>(text[at]);
  if (lead < 0x80) {
    length = 1;
    return Sequence::kValid;
  }
  if (lead < 0xC2 || lead > 0xF4) {
    return Sequence::kInvalid;
  }
  length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  for (size_t i = 1; i < length; ++i) {
    if (at + i >= text.size()) {
      return Sequence::kIncomplete;
    }
    const auto byte = static_cast<uint8_t>(text[at + i]);
    // The second byte excludes overlong forms, surrogates and code points beyond U+10FFFF.
    const uint8_t low = i > 1 ? 0x80 : lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    const uint8_t high = i > 1 ? 0xBF : lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    if (byte < low || byte > high) {
      return Sequence::kInvalid;
    }
  }
  return Sequence::kValid;
}

bool IsSpace(char c) {
  return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

}  // namespace

std::string WithoutMarks(std::string_view text) {
  std::string out(text);
  out.erase(std::remove(out.begin(), out.end(), kSpecialMark), out.end());
  return out;
}

ParserCore::ParserCore(ParserOptions& options)
    : sink_(std::move(options.new_call_id), !options.parallel_tool_calls || options.named_call,
            !options.named_call),
      special_tokens_(std::move(options.special_tokens)) {}

std::string ParserCore::Marker(std::string_view text) {
  for (const std::string& token : special_tokens_) {
    const size_t at = token.empty() ? std::string_view::npos : text.find(token);
    if (at != std::string_view::npos) {
      admitted_.push_back(token);
      return std::string(text.substr(0, at)) + kSpecialMark + std::string(text.substr(at));
    }
  }
  return std::string(text);
}

void ParserCore::AdmitText(std::string_view text, bool flush) {
  std::string joined;
  if (!partial_.empty()) {
    joined = partial_ + std::string(text);
    partial_.clear();
    text = joined;
  }
  size_t at = 0;
  size_t copied = 0;
  while (at < text.size()) {
    size_t length = 0;
    Sequence sequence = JudgeUtf8(text, at, length);
    if (sequence == Sequence::kIncomplete) {
      if (!flush) {
        in_.append(text, copied, at - copied);
        partial_ = text.substr(at);
        return;
      }
      sequence = Sequence::kInvalid;
    }
    if (sequence == Sequence::kInvalid) {
      in_.append(text, copied, at - copied);
      in_ += kReplacement;
      copied = ++at;
    } else {
      at += length;
    }
  }
  in_.append(text, copied, at - copied);
}

void ParserCore::Admit(const OutputPiece& piece) {
  const bool is_marker = piece.is_token && std::find(admitted_.begin(), admitted_.end(),
                                                     piece.text) != admitted_.end();
  if (is_marker) {
    AdmitText("", true);
    in_ += kSpecialMark;
    in_ += piece.text;
  } else if (!piece.is_hidden) {
    AdmitText(piece.text, false);
  }
}

void ParserCore::Push(const OutputPiece& piece, std::vector<ChatDelta>& out) {
  sink_.Attach(out);
  Admit(piece);
  Run();
}

void ParserCore::Finish(EndReason ended, std::vector<ChatDelta>& out) {
  sink_.Attach(out);
  AdmitText("", true);
  at_end_ = true;
  cut_off_ = ended == EndReason::kLength;
  Run();
  End(ended);
  sink_.Finish();
}

void ParserCore::Run() {
  while (Step()) {
  }
  const size_t used = KeepFrom();
  // Moving the rest of a long buffer for each token would be quadratic.
  if (used > 0 && used * 2 >= in_.size()) {
    in_.erase(0, used);
    pos_ -= used;
    Shifted(used);
  }
}

ParserCore::Hit ParserCore::Match(size_t at, std::string_view marker) const {
  const size_t available = std::min(marker.size(), in_.size() - std::min(at, in_.size()));
  if (in_.compare(at, available, marker, 0, available) != 0) {
    return Hit::kNo;
  }
  if (available == marker.size()) {
    return Hit::kFull;
  }
  return at_end_ ? Hit::kNo : Hit::kPartial;
}

size_t ParserCore::SkipGap(size_t at) const {
  const size_t limit = std::min(in_.size(), at + kMaxGapBytes);
  while (at < limit && IsSpace(in_[at])) {
    ++at;
  }
  return at;
}

size_t ParserCore::FindLead(size_t from) const {
  while (from < in_.size() && in_[from] != '<' && in_[from] != kSpecialMark) {
    ++from;
  }
  return from;
}

}  // namespace mach::chat
