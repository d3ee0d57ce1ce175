// What every streaming parser shares: an input buffer of whole characters in which special tokens
// are marked, matching of markers that may not have arrived in full, and the loop that asks a
// format for one decision after the other. For use inside chat/ only.
//
// Special tokens stand in the buffer as kSpecialMark followed by their text. The byte never occurs
// in UTF-8, so a marker that is a special token is the pattern kSpecialMark + text, which ordinary
// text cannot match, and a marker that is not is just its text.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "chat/delta_sink.h"
#include "chat/output_parser.h"

namespace mach::chat {

inline constexpr char kSpecialMark = '\xFF';

// `text` without kSpecialMark bytes.
std::string WithoutMarks(std::string_view text);

class ParserCore : public OutputParser {
 public:
  explicit ParserCore(ParserOptions& options);

  void Push(const OutputPiece& piece, std::vector<ChatDelta>& out) final;
  void Finish(EndReason ended, std::vector<ChatDelta>& out) final;
  bool ShouldStop() const override { return sink_.first_call_is_all(); }
  bool AnyCall() const final { return sink_.any_call(); }
  std::span<const std::string> marker_tokens() const final { return admitted_; }

 protected:
  // One decision on the input from pos_: consumes some of it or changes the state. False: more
  // input is needed, which is final once at_end_ is set. Every decision must come out the same
  // however much more input has arrived.
  virtual bool Step() = 0;
  // After the last Step of the output; what is still in the buffer is dropped.
  virtual void End(EndReason ended) = 0;
  // Bytes from here on must stay in the buffer: pos_, or an earlier place to go back to.
  virtual size_t KeepFrom() const { return pos_; }
  virtual void Shifted(size_t /*bytes*/) {}

  // Makes `text` a pattern for Match and admits the special tokens in it.
  std::string Marker(std::string_view text);

  enum class Hit { kNo, kPartial, kFull };
  // Whether `marker` stands at `at`; kPartial: the input ends too early to tell.
  Hit Match(size_t at, std::string_view marker) const;

  // Skips whitespace from `at`, at most kMaxGapBytes of it.
  size_t SkipGap(size_t at) const;

  // First byte at or after `from` that may start a marker ('<' or a special token), or the end.
  size_t FindLead(size_t from) const;

  // Bounds on what is held back while a tag is undecided; they keep parsing linear.
  static constexpr size_t kMaxGapBytes = 256;
  static constexpr size_t kMaxTagBytes = 512;

  DeltaSink sink_;
  std::string in_;
  size_t pos_ = 0;
  bool at_end_ = false;
  bool cut_off_ = false;  // at_end_, and not because the model had finished

 private:
  void Admit(const OutputPiece& piece);
  void AdmitText(std::string_view text, bool flush);
  void Run();

  std::vector<std::string> special_tokens_;
  std::vector<std::string> admitted_;  // the special tokens that occur in markers
  std::string partial_;                // an incomplete character
};

}  // namespace mach::chat
