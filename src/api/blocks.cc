#include "api/blocks.h"

namespace mach::api {

using Kind = chat::ChatDelta::Kind;

Block BlockOf(const chat::ChatDelta& delta) {
  switch (delta.kind) {
    case Kind::kContent:
      return {.kind = Block::Kind::kText, .id = "", .name = "", .text = ""};
    case Kind::kReasoning:
      return {.kind = Block::Kind::kReasoning, .id = "", .name = "", .text = ""};
    default:
      return {.kind = Block::Kind::kCall,
              .id = delta.id,
              .name = delta.kind == Kind::kCallStart ? delta.text : "",
              .text = ""};
  }
}

bool BeginsBlock(Block::Kind open, const chat::ChatDelta& delta) {
  return delta.kind == Kind::kCallStart || BlockOf(delta).kind != open;
}

std::string& OpenEvent(Pieces& out, std::string_view name) {
  std::string& text = out.Tail();
  text += "event: ";
  text += name;
  text += "\ndata: {\"type\":\"";
  text += name;
  text += '"';
  return text;
}

}  // namespace mach::api
