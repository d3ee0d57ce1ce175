// Gives the text of a parameter the type that its schema asks for, and says early that a text can
// only be a string. Pure functions and a small automaton; for use inside chat/ only.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "chat/tool_schemas.h"

namespace mach::chat {

// What a format says of a value besides its text.
enum class ValueHint {
  kNone,    // only the schema decides; without one it is a string
  kString,  // the same; DSML's string="true"
  kJson,    // DSML's string="false": JSON if it parses, then typed by the schema
};

// The value as JSON text. Numbers keep their digits, strings their whitespace, keys their order.
std::string TypedValue(std::string_view text, SchemaRef schema, ValueHint hint);

// The object in `text`, typed, if it is one and `tool` declares each of its keys.
std::optional<std::string> DeclaredObject(std::string_view text, const ToolSchema& tool);

// `text` without whitespace around it.
std::string_view TrimSpace(std::string_view text);

// Whether `text` is exactly one JSON object.
bool IsJsonObject(std::string_view text);

// The characters of a JSON string without its quotes; nullopt if `text` is not one.
std::optional<std::string> UnquoteJson(std::string_view text);

// Watches a value whose schema allows strings and other types, as it is generated.
class StringWatch {
 public:
  explicit StringWatch(const TypeSet& types);

  void Feed(std::string_view text);
  // Nothing but a string can come of what was fed, whatever follows.
  bool only_string() const { return only_string_; }

 private:
  struct Word {
    std::string_view text;
    bool alive;
  };

  TypeSet types_;
  std::array<Word, 3> words_;
  size_t length_ = 0;  // characters since leading whitespace
  bool digits_;        // all characters could be a number's
  bool only_string_ = false;
};

}  // namespace mach::chat
