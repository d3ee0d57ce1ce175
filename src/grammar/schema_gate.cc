#include "grammar/schema_gate.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "grammar/finite.h"
#include "grammar/pattern.h"

namespace mach::grammar {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kMaxDepth = 100;
constexpr size_t kMaxNodes = 20000;
// Of a larger whole number the digits may not be those that were meant.
constexpr double kMaxExact = 9007199254740991.0;

const std::set<std::string_view> kFormats = {"date-time", "time", "date", "duration", "email",
                                             "hostname",  "ipv4", "ipv6", "uuid",     "uri"};
const std::set<std::string_view> kTypes = {"null",   "boolean", "integer", "number",
                                           "string", "array",   "object"};
// Keywords of some draft that change what is valid and are not enforced.
constexpr std::string_view kRefused[] = {"not",
                                         "contains",
                                         "propertyNames",
                                         "dependencies",
                                         "dependentRequired",
                                         "dependentSchemas",
                                         "unevaluatedItems",
                                         "unevaluatedProperties",
                                         "$dynamicRef",
                                         "$recursiveRef"};

bool SaysNothing(const Json& value) {
  return value == true || value == Json::object();
}

// Drafts 3 to 7: references stand alone, `items` may be a list.
bool IsOldDraft(const Json& schema) {
  if (!schema.is_object() || !schema.contains("$schema") || !schema["$schema"].is_string()) {
    return false;
  }
  const auto name = schema["$schema"].get<std::string>();
  for (const char* draft : {"-03", "-04", "-06", "-07"}) {
    if (name.find(std::string("json-schema.org/draft") + draft) != std::string::npos) {
      return true;
    }
  }
  return false;
}

// A reference, and beside it at most what only describes.
bool IsBareReference(const Json& schema) {
  for (const auto& [key, value] : schema.items()) {
    if (key != "$ref" && key != "description" && key != "title" && key != "$comment" &&
        key != "default" && key != "examples") {
      return false;
    }
  }
  return schema.contains("$ref");
}

class Gate {
 public:
  Gate(const Json& root, Keywords keywords)
      : root_(root), relax_(keywords == Keywords::kRelax), old_draft_(IsOldDraft(root)) {
    if (root.is_object() && root.contains("$id") && root["$id"].is_string()) {
      root_id_ = root["$id"].get<std::string>();
      while (root_id_.ends_with('#')) {
        root_id_.pop_back();
      }
    }
  }

  Json Run() {
    Json out = Node(root_, "", 0);
    if (out.is_boolean()) {
      out = out == true ? Json::object() : Json{{"enum", Json::array()}};
    }
    Json defs = Json::object();
    while (!pending_.empty()) {
      const auto [pointer, name] = pending_.back();
      pending_.pop_back();
      defs[name] = Node(*Target(pointer, pointer), pointer, 0);
    }
    if (!defs.empty()) {
      out["$defs"] = std::move(defs);
      if (!IsFinite(out)) {
        Throw("", "'$ref' leads round without an end, or to what allows nothing");
      }
    }
    return out;
  }

 private:
  [[noreturn]] static void Throw(const std::string& path, const std::string& what) {
    throw Error(ErrorCode::kInvalidArgument,
                "schema" + (path.empty() ? "" : " at " + path) + ": " + what);
  }
  // Of a keyword that cannot be enforced.
  void Refuse(const std::string& path, std::string_view keyword,
              const std::string& why = "") const {
    if (!relax_) {
      Throw(path, "'" + std::string(keyword) + "' cannot be enforced" + why);
    }
  }

  Json Node(const Json& schema, const std::string& path, int depth) {
    if (schema.is_boolean()) {
      return schema;
    }
    if (!schema.is_object()) {
      Throw(path, "a schema is an object or a boolean");
    }
    if (depth > kMaxDepth || ++nodes_ > kMaxNodes) {
      Throw(path, "too deep or too large");
    }
    if (!path.empty() && schema.contains("$id") && schema["$id"].is_string() &&
        !(old_draft_ && schema.contains("$ref"))) {
      Refuse(path, "$id", " inside a schema");
    }
    Json out = Json::object();
    if (old_draft_ && schema.contains("$ref")) {
      Reference(schema, path, out);
      return out;
    }
    for (const std::string_view keyword : kRefused) {
      if (const auto it = schema.find(keyword); it != schema.end() && !SaysNothing(*it)) {
        if (keyword == "unevaluatedProperties" && IsPlainObject(schema)) {
          continue;
        }
        Refuse(path, keyword);
      } else if (it != schema.end() && (keyword == "not" || keyword == "contains")) {
        Refuse(path, keyword);
      }
    }
    if (schema.contains("if") && (schema.contains("then") || schema.contains("else"))) {
      Refuse(path, "if");
    }
    Type(schema, path, out);
    Object(schema, path, depth, out);
    Array(schema, path, depth, out);
    String(schema, path, out);
    Number(schema, path, out);
    Values(schema, path, out);
    Applicators(schema, path, depth, out);
    Reference(schema, path, out);
    return out;
  }

  // All of its members are in sight, so what is not evaluated is what is additional.
  static bool IsPlainObject(const Json& schema) {
    for (const char* keyword : {"allOf", "anyOf", "oneOf", "$ref", "if", "dependentSchemas",
                                "$dynamicRef", "additionalProperties", "not"}) {
      if (schema.contains(keyword)) {
        return false;
      }
    }
    return true;
  }

  void Type(const Json& schema, const std::string& path, Json& out) const {
    const auto it = schema.find("type");
    if (it == schema.end()) {
      return;
    }
    const Json types = it->is_array() ? *it : Json::array({*it});
    for (const Json& type : types) {
      if (!type.is_string() || !kTypes.contains(type.get_ref<const std::string&>())) {
        Throw(path + "/type", "no such type: " + type.dump());
      }
    }
    if (types.empty()) {
      Throw(path + "/type", "no type at all");
    }
    out["type"] = *it;
  }

  std::optional<uint64_t> Count(const Json& schema, const char* keyword,
                                const std::string& path) const {
    const auto it = schema.find(keyword);
    if (it == schema.end()) {
      return std::nullopt;
    }
    if (!it->is_number() || it->get<double>() < 0 || it->get<double>() > 1e9 ||
        it->get<double>() != std::floor(it->get<double>())) {
      Throw(path, "'" + std::string(keyword) + "' is a whole number from 0 to 1000000000");
    }
    return static_cast<uint64_t>(it->get<double>());
  }
  void CopyCount(const Json& schema, const char* keyword, const std::string& path,
                 Json& out) const {
    if (const auto count = Count(schema, keyword, path)) {
      out[keyword] = *count;
    }
  }

  void Object(const Json& schema, const std::string& path, int depth, Json& out) {
    for (const char* keyword : {"properties", "patternProperties"}) {
      const auto it = schema.find(keyword);
      if (it == schema.end()) {
        continue;
      }
      if (!it->is_object()) {
        Throw(path, "'" + std::string(keyword) + "' is an object");
      }
      Json members = Json::object();
      for (const auto& [name, member] : it->items()) {
        const std::string below = path + "/" + keyword + "/" + name;
        if (std::string_view(keyword) == "properties") {
          members[name] = Node(member, below, depth + 1);
        } else if (const auto pattern = Pattern(name, below)) {
          members[*pattern] = Node(member, below, depth + 1);
        }
      }
      out[keyword] = std::move(members);
    }
    const char* rest = schema.contains("additionalProperties") ? "additionalProperties"
                       : schema.contains("unevaluatedProperties") && IsPlainObject(schema)
                           ? "unevaluatedProperties"
                           : nullptr;
    if (rest != nullptr) {
      out["additionalProperties"] = Node(schema[rest], path + "/" + rest, depth + 1);
    }
    uint64_t required = 0;
    if (const auto it = schema.find("required"); it != schema.end() && !it->is_boolean()) {
      if (!it->is_array() ||
          !std::all_of(it->begin(), it->end(), [](const Json& x) { return x.is_string(); })) {
        Throw(path, "'required' is a list of names");
      }
      out["required"] = *it;
      required = std::set<Json>(it->begin(), it->end()).size();
    }
    // Members that no property names might be one name several times.
    if (const auto least = Count(schema, "minProperties", path)) {
      if (*least > required + 1) {
        Refuse(path, "minProperties", " beyond the required members and one more");
      }
      out["minProperties"] = std::min(*least, required + 1);
    }
    CopyCount(schema, "maxProperties", path, out);
  }

  void Array(const Json& schema, const std::string& path, int depth, Json& out) {
    const auto list = [&](const char* keyword, const Json& items) {
      Json nodes = Json::array();
      for (size_t i = 0; i < items.size(); ++i) {
        nodes.push_back(Node(items[i], path + "/" + keyword + "/" + std::to_string(i), depth + 1));
      }
      return nodes;
    };
    const auto items = schema.find("items");
    if (const auto it = schema.find("prefixItems"); it != schema.end() && !old_draft_) {
      if (!it->is_array()) {
        Throw(path, "'prefixItems' is a list");
      }
      out["prefixItems"] = list("prefixItems", *it);
    }
    if (items != schema.end() && items->is_array() && !out.contains("prefixItems")) {
      out["prefixItems"] = list("items", *items);
      if (schema.contains("additionalItems")) {
        out["items"] = Node(schema["additionalItems"], path + "/additionalItems", depth + 1);
      }
    } else if (items != schema.end()) {
      out["items"] = Node(*items, path + "/items", depth + 1);
    }
    CopyCount(schema, "minItems", path, out);
    CopyCount(schema, "maxItems", path, out);
    if (schema.contains("uniqueItems") && schema["uniqueItems"] != false &&
        Count(schema, "maxItems", path).value_or(2) > 1) {
      Refuse(path, "uniqueItems");
    }
  }

  void String(const Json& schema, const std::string& path, Json& out) const {
    CopyCount(schema, "minLength", path, out);
    CopyCount(schema, "maxLength", path, out);
    if (const auto it = schema.find("pattern"); it != schema.end()) {
      if (!it->is_string()) {
        Throw(path, "'pattern' is a text");
      }
      if (const auto pattern = Pattern(it->get<std::string>(), path + "/pattern")) {
        out["pattern"] = *pattern;
      }
    }
    if (const auto it = schema.find("format"); it != schema.end() && it->is_string()) {
      if (kFormats.contains(it->get_ref<const std::string&>())) {
        out["format"] = *it;
      } else {
        Refuse(path, "format", ": " + it->dump());
      }
    }
  }

  std::optional<std::string> Pattern(const std::string& pattern, const std::string& path) const {
    try {
      return TranslatePattern(pattern);
    } catch (const Error& error) {
      Refuse(path, "pattern", std::string(": ") + error.what());
      return std::nullopt;
    }
  }

  void Number(const Json& schema, const std::string& path, Json& out) const {
    for (const char* keyword :
         {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}) {
      const auto it = schema.find(keyword);
      if (it == schema.end()) {
        continue;
      }
      if (it->is_boolean() && std::string_view(keyword).starts_with("exclusive")) {
        out[keyword] = *it;  // draft 4
        continue;
      }
      if (!it->is_number()) {
        Throw(path, "'" + std::string(keyword) + "' is a number");
      }
      if (!(std::abs(it->get<double>()) <= kMaxExact)) {
        Refuse(path, keyword, ": " + it->dump() + " is too large");
        continue;
      }
      out[keyword] = *it;
    }
  }

  // Why a value cannot be asked for, if so.
  static std::string Unwritable(const Json& value) {
    if (value.is_structured()) {
      for (const Json& member : value) {
        if (std::string why = Unwritable(member); !why.empty()) {
          return why;
        }
      }
    }
    if (value.is_number() && std::abs(value.get<double>()) > kMaxExact) {
      return ": " + value.dump() + " is too large";
    }
    if (value.is_string()) {
      for (const char c : value.get_ref<const std::string&>()) {
        if ((static_cast<unsigned char>(c) < 0x20 &&
             std::string_view("\b\f\n\r\t").find(c) == std::string_view::npos) ||
            c == 0x7F) {
          return ": a control character";
        }
      }
    }
    return "";
  }

  void Values(const Json& schema, const std::string& path, Json& out) const {
    for (const char* keyword : {"enum", "const"}) {
      const auto it = schema.find(keyword);
      if (it == schema.end()) {
        continue;
      }
      if (std::string_view(keyword) == "enum" && !it->is_array()) {
        Throw(path, "'enum' is a list");
      }
      if (const std::string why = Unwritable(*it); !why.empty()) {
        Refuse(path, keyword, why);
        continue;
      }
      out[keyword] = *it;
    }
  }

  void Applicators(const Json& schema, const std::string& path, int depth, Json& out) {
    for (const char* keyword : {"allOf", "anyOf", "oneOf"}) {
      const auto it = schema.find(keyword);
      if (it == schema.end()) {
        continue;
      }
      if (!it->is_array() || it->empty()) {
        Throw(path, "'" + std::string(keyword) + "' is a list that is not empty");
      }
      Json nodes = Json::array();
      for (size_t i = 0; i < it->size(); ++i) {
        const std::string below = path + "/" + keyword + "/" + std::to_string(i);
        // Alternatives exclude each other only as far as can be seen.
        const Json& option =
            std::string_view(keyword) == "oneOf" ? Dereferenced((*it)[i], below) : (*it)[i];
        nodes.push_back(Node(option, below, depth + 1));
      }
      out[keyword] = std::move(nodes);
    }
  }

  // What a schema that is only a reference refers to.
  const Json& Dereferenced(const Json& option, const std::string& path) const {
    const Json* schema = &option;
    for (int hops = 0; hops < 8 && schema->is_object() && schema->contains("$ref"); ++hops) {
      const auto pointer = Local((*schema)["$ref"]);
      if (!pointer || !(old_draft_ || IsBareReference(*schema))) {
        break;
      }
      schema = Target(*pointer, path);
    }
    return *schema;
  }

  // The pointer of a reference into this document.
  std::optional<std::string> Local(const Json& reference) const {
    if (!reference.is_string()) {
      return std::nullopt;
    }
    std::string text = reference.get<std::string>();
    if (!root_id_.empty() && text.starts_with(root_id_)) {
      text.erase(0, root_id_.size());
      if (text.empty()) {
        text = "#";
      }
    }
    if (text != "#" && text != "#/" && !text.starts_with("#/")) {
      return std::nullopt;
    }
    std::string pointer;
    for (size_t i = 1; i < text.size(); ++i) {  // percent-encoded
      unsigned code = 0;
      if (text[i] == '%' && std::sscanf(text.c_str() + i + 1, "%2x", &code) == 1) {
        pointer += static_cast<char>(code);
        i += 2;
      } else {
        pointer += text[i];
      }
    }
    return pointer == "/" && text == "#/" ? "" : pointer;
  }

  const Json* Target(const std::string& pointer, const std::string& path) const {
    const Json* node = &root_;
    size_t at = 0;
    while (at < pointer.size()) {
      const size_t end = std::min(pointer.find('/', at + 1), pointer.size());
      std::string key = pointer.substr(at + 1, end - at - 1);
      for (const auto& [escape, text] : {std::pair("~1", "/"), std::pair("~0", "~")}) {
        for (size_t i = key.find(escape); i != std::string::npos; i = key.find(escape, i + 1)) {
          key.replace(i, 2, text);
        }
      }
      at = end;
      if (node != &root_ && node->is_object() && node->contains("$id") &&
          (*node)["$id"].is_string()) {
        Throw(path, "'$ref' cannot lead into a schema with an '$id' of its own");
      }
      if (node->is_array() && !key.empty() &&
          key.find_first_not_of("0123456789") == std::string::npos && key.size() < 8 &&
          std::stoul(key) < node->size()) {
        node = &(*node)[std::stoul(key)];
      } else if (node->is_object() && node->contains(key)) {
        node = &(*node)[key];
      } else {
        Throw(path, "'$ref' leads nowhere: #" + pointer);
      }
    }
    return node;
  }

  void Reference(const Json& schema, const std::string& path, Json& out) {
    const auto it = schema.find("$ref");
    if (it == schema.end()) {
      return;
    }
    const auto pointer = Local(*it);
    if (!pointer) {
      Refuse(path, "$ref", " unless it is a pointer into the schema itself: " + it->dump());
      return;
    }
    Target(*pointer, path);
    auto [name, is_new] = names_.try_emplace(*pointer, std::to_string(names_.size()));
    if (is_new) {
      pending_.emplace_back(*pointer, name->second);
    }
    out["$ref"] = "#/$defs/" + name->second;
  }

  const Json& root_;
  const bool relax_;
  const bool old_draft_;
  std::string root_id_;
  size_t nodes_ = 0;
  std::map<std::string, std::string> names_;                  // of pointers, in $defs
  std::vector<std::pair<std::string, std::string>> pending_;  // pointer, name
};

}  // namespace

Json Admit(const Json& schema, Keywords keywords) {
  return Gate(schema, keywords).Run();
}

}  // namespace mach::grammar
