// What the encoders of /v1/messages and /v1/responses have in common: an answer is a list of
// blocks, and the events of a stream have names. For the encoders of api/ only.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/pieces.h"
#include "chat/output_parser.h"

namespace mach::api {

// A stretch of an answer, in the order in which the model writes.
struct Block {
  enum class Kind { kReasoning, kText, kCall };
  Kind kind = Kind::kText;
  std::string id;    // kCall
  std::string name;  // kCall
  std::string text;  // of a call: its arguments

  uint64_t held_bytes() const {
    return sizeof(*this) + id.capacity() + name.capacity() + text.capacity();
  }
};

// The block that `delta` begins or goes on with, without what it adds to the text.
Block BlockOf(const chat::ChatDelta& delta);

// What `delta` adds to the text of its block.
inline std::string_view AddedText(const chat::ChatDelta& delta) {
  return delta.kind == chat::ChatDelta::Kind::kCallStart ? std::string_view() : delta.text;
}

// Whether `delta` is no more of a block of this kind: text after reasoning, or another call.
bool BeginsBlock(Block::Kind open, const chat::ChatDelta& delta);

// `event: NAME` and its data up to `{"type":"NAME"`; whoever opens it ends the object and then the
// event.
std::string& OpenEvent(Pieces& out, std::string_view name);
inline constexpr std::string_view kEventEnd = "\n\n";

}  // namespace mach::api
