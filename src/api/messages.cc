#include "api/messages.h"

#include <utility>

#include "api/big_integers.h"

namespace mach::api {
namespace {

constexpr size_t kQuotedLimit = 64;  // longest client text that an error message repeats

std::string ReadRole(const Json& message, const std::string& path) {
  const auto it = message.find("role");
  if (it == message.end() || !it->is_string()) {
    Reject("'" + path + ".role' is required and must be a string.", path + ".role");
  }
  const auto& role = it->get_ref<const std::string&>();
  if (role == "developer") {
    return "system";
  }
  if (role != "system" && role != "user" && role != "assistant" && role != "tool") {
    Reject("'" + path + ".role' must be one of system, developer, user, assistant, tool" +
               (role.size() <= kQuotedLimit ? ", not '" + role + "'." : "."),
           path + ".role");
  }
  return role;
}

const std::string& ReadTextPart(const Json& part, const std::string& path) {
  if (!part.is_object()) {
    Reject("'" + path + "' must be an object.", path);
  }
  const auto type = part.find("type");
  if (type == part.end() || !type->is_string()) {
    Reject("'" + path + ".type' is required and must be a string.", path + ".type");
  }
  const auto& name = type->get_ref<const std::string&>();
  const char* key = name == "text" ? "text" : name == "refusal" ? "refusal" : nullptr;
  if (key == nullptr) {
    Reject("'" + path + ".type' must be \"text\": this model reads text only" +
               (name.size() <= kQuotedLimit ? ", not '" + name + "'." : "."),
           path + ".type");
  }
  const auto text = part.find(key);
  if (text == part.end() || !text->is_string()) {
    Reject("'" + path + "." + key + "' is required and must be a string.", path + "." + key);
  }
  return text->get_ref<const std::string&>();
}

std::string ReadContent(Json& message, const std::string& path) {
  const auto it = message.find("content");
  if (it == message.end() || it->is_null()) {
    return "";
  }
  if (it->is_string()) {
    return std::move(it->get_ref<std::string&>());
  }
  if (!it->is_array()) {
    Reject("'" + path + ".content' must be a string, null or an array of text parts, not " +
               std::string(JsonTypeName(*it)) + ".",
           path + ".content");
  }
  std::string joined;
  for (size_t i = 0; i < it->size(); ++i) {
    if (i > 0) {
      joined += '\n';
    }
    joined += ReadTextPart((*it)[i], path + ".content[" + std::to_string(i) + "]");
  }
  return joined;
}

// Templates iterate over the arguments of past calls, so they are objects where they can be; text
// that is no JSON object stays as it came.
Json ReadArguments(Json& function, const std::string& path) {
  const auto it = function.find("arguments");
  if (it == function.end() || it->is_null()) {
    return Json::object();
  }
  if (it->is_object()) {
    return std::move(*it);
  }
  if (!it->is_string()) {
    Reject("'" + path + ".arguments' must be a string of JSON.", path + ".arguments");
  }
  const auto& text = it->get_ref<const std::string&>();
  if (text.find_first_not_of(" \t\r\n") == std::string::npos) {
    return Json::object();
  }
  try {
    Json parsed = ParseKeepingBigIntegers(text);
    if (parsed.is_object()) {
      return parsed;
    }
    return parsed.is_null() ? Json::object() : std::move(*it);
  } catch (const RequestError&) {
    return std::move(*it);
  }
}

Json ReadToolCalls(Json& calls, const std::string& path) {
  if (!calls.is_array()) {
    Reject("'" + path + "' must be an array.", path);
  }
  Json out = Json::array();
  for (size_t i = 0; i < calls.size(); ++i) {
    Json& call = calls[i];
    const std::string item_path = path + "[" + std::to_string(i) + "]";
    if (!call.is_object()) {
      Reject("'" + item_path + "' must be an object.", item_path);
    }
    const auto function = call.find("function");
    const std::string function_path = item_path + ".function";
    if (function == call.end() || !function->is_object()) {
      Reject("'" + function_path + "' is required and must be an object.", function_path);
    }
    const auto name = function->find("name");
    if (name == function->end() || !name->is_string()) {
      Reject("'" + function_path + ".name' is required and must be a string.",
             function_path + ".name");
    }
    Json normal = Json::object();
    const auto id = call.find("id");
    if (id != call.end() && id->is_string()) {
      normal["id"] = std::move(*id);
    }
    normal["type"] = "function";
    normal["function"] = Json::object();
    normal["function"]["name"] = std::move(*name);
    normal["function"]["arguments"] = ReadArguments(*function, function_path);
    out.push_back(std::move(normal));
  }
  return out;
}

// Strings that templates may read beside role and content.
void MoveString(Json& message, const char* key, const std::string& path, Json& out,
                const char* out_key) {
  const auto it = message.find(key);
  if (it == message.end() || it->is_null()) {
    return;
  }
  if (!it->is_string()) {
    Reject("'" + path + "." + key + "' must be a string.", path + "." + key);
  }
  out[out_key] = std::move(*it);
}

Json NormaliseMessage(Json& message, const std::string& path) {
  if (!message.is_object()) {
    Reject("'" + path + "' must be an object, not " + std::string(JsonTypeName(message)) + ".",
           path);
  }
  Json out = Json::object();
  const std::string role = ReadRole(message, path);
  out["role"] = role;
  out["content"] = ReadContent(message, path);
  MoveString(message, "name", path, out, "name");
  if (role == "assistant") {
    MoveString(message, "reasoning", path, out, "reasoning_content");
    MoveString(message, "reasoning_content", path, out, "reasoning_content");
    const auto calls = message.find("tool_calls");
    if (calls != message.end() && !calls->is_null()) {
      Json normal = ReadToolCalls(*calls, path + ".tool_calls");
      if (!normal.empty()) {
        out["tool_calls"] = std::move(normal);
      }
    }
    const auto old_call = message.find("function_call");
    if (old_call != message.end() && !old_call->is_null()) {
      Reject("'" + path + ".function_call' is not supported; use 'tool_calls'.",
             path + ".function_call");
    }
  } else if (role == "tool") {
    MoveString(message, "tool_call_id", path, out, "tool_call_id");
  }
  return out;
}

}  // namespace

Json NormaliseMessages(Json messages) {
  if (messages.empty()) {
    Reject("'messages' is required and must have at least one message.", "messages");
  }
  Json out = Json::array();
  bool leading = true;
  for (size_t i = 0; i < messages.size(); ++i) {
    Json message = NormaliseMessage(messages[i], "messages[" + std::to_string(i) + "]");
    leading = leading && message["role"] == "system";
    if (leading && !out.empty()) {
      // Some templates refuse a second system message.
      auto& text = out[0]["content"].get_ref<std::string&>();
      text += "\n\n" + message["content"].get_ref<const std::string&>();
      continue;
    }
    out.push_back(std::move(message));
  }
  return out;
}

}  // namespace mach::api
