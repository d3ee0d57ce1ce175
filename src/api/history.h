// The history of a chat as OpenAI's chats write it, put together from the items of other protocols,
// and the tools of these. For use inside api only.
#pragma once

#include <string>

#include "api/fields.h"
#include "api/request.h"

namespace mach::api {

// What an assistant writes in one turn may come in several items; they become one message until
// something else comes in between.
class History {
 public:
  void AddMessage(std::string_view role, std::string content);
  void AddToolResult(const std::string& call_id, std::string content);

  void AddReasoning(const std::string& text);
  // Of the assistant. `apart`: another message than the one before, not more of it.
  void AddText(const std::string& text, bool apart);
  // `arguments`: an object, or a string of JSON.
  void AddCall(const std::string& id, const std::string& name, Json arguments);

  // What NormaliseMessages takes.
  Json Take() { return std::move(messages_); }

 private:
  Json& Turn();     // the assistant's message that is being put together
  Json& NewTurn();  // another one

  Json messages_ = Json::array();
};

// `object`'s member `key`, a string that is required. `path` is the object's.
const std::string& RequiredString(const Json& object, const char* key, const std::string& path);

// Whether parts of this type hold text. The others are refused by name.
using IsTextType = bool (*)(std::string_view type);
const std::string& PartText(const Json& part, const std::string& path, IsTextType is_text);
// The texts of `parts`, a string or an array, joined with `separator`.
std::string JoinTexts(const Json& parts, const std::string& path, std::string_view separator,
                      IsTextType is_text);

[[noreturn]] void RejectType(const std::string& type, const std::string& path,
                             const std::string& allowed);

// `tool` declares a function flatly: name, description, strict and under `schema_key` what its
// arguments are. As OpenAI's chats declare it.
Json FlatTool(const Json& tool, const char* schema_key, const std::string& path);

// The choice of the function `choice.name`, which must be one of `tools` (null: there are none).
ToolChoice NamedTool(const Json& choice, const Json* tools);

// `tools` as a request keeps them. Throws if `choice` needs some and there are none, or if there
// are too many.
void SetTools(Json tools, ToolChoice choice, const RequestLimits& limits, ChatRequest& request);

}  // namespace mach::api
