#include "decode/text_stream.h"

#include <algorithm>
#include <string_view>
#include <utility>

namespace mach::decode {
namespace {

// Length of the longest tail of `text` that is a proper prefix of `stop`.
size_t PossibleStart(std::string_view text, std::string_view stop) {
  for (size_t length = std::min(text.size(), stop.size() - 1); length > 0; --length) {
    if (text.substr(text.size() - length) == stop.substr(0, length)) {
      return length;
    }
  }
  return 0;
}

}  // namespace

TextStream::TextStream(const text::Tokenizer& tokenizer, bool show_special,
                       std::vector<std::string> stop_strings, bool include_stop_string)
    : decoder_(tokenizer, !show_special),
      stop_strings_(std::move(stop_strings)),
      include_stop_string_(include_stop_string) {}

std::string TextStream::Push(int32_t token, bool may_stop) {
  const std::string piece = decoder_.Push(token);
  decoded_bytes_ += piece.size();
  pending_ += piece;
  return Release(may_stop, false);
}

std::string TextStream::Finish() {
  const std::string piece = decoder_.Finish();
  decoded_bytes_ += piece.size();
  pending_ += piece;
  return Release(true, true);
}

std::string TextStream::Release(bool may_stop, bool at_end) {
  if (stop_) {
    return "";
  }
  size_t shown = pending_.size();
  if (may_stop) {
    // The match that begins first wins; of those, the one listed first.
    size_t first = std::string::npos;
    for (const std::string& stop : stop_strings_) {
      const size_t at = pending_.find(stop);
      if (at < first) {
        first = at;
        stop_ = stop;
      }
    }
    if (stop_) {
      shown = first + (include_stop_string_ ? stop_->size() : 0);
    } else if (!at_end) {
      size_t held = 0;
      for (const std::string& stop : stop_strings_) {
        held = std::max(held, PossibleStart(pending_, stop));
      }
      shown = pending_.size() - held;
    }
  }
  std::string released = pending_.substr(0, shown);
  pending_.erase(0, shown);
  shown_bytes_ += shown;
  return released;
}

}  // namespace mach::decode
