#include "grammar/schema_rewrite.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mach::grammar {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kMaxDepth = 12;
constexpr size_t kMostBytes = 2000;   // of all texts that something must not be
constexpr size_t kLongest = 80;       // of one: each character is a group in a pattern
constexpr size_t kMostExclusive = 8;  // alternatives whose number squared are written

// They may stand in a schema and change nothing.
const std::set<std::string_view> kNotes = {
    "title",    "description", "$comment", "default",     "examples", "deprecated",
    "readOnly", "writeOnly",   "$schema",  "definitions", "$defs",    "markdownDescription"};
const std::vector<std::string_view> kTypes = {"null",   "boolean", "number",
                                              "string", "array",   "object"};

Json Members(const std::string& name, const Json& schema) {
  Json members = Json::object();
  members[name] = schema;
  return {{"properties", std::move(members)}};
}

Json Without(const std::string& name) {
  return Members(name, false);
}

Json All(std::vector<Json> schemas) {
  if (schemas.size() == 1) {
    return std::move(schemas[0]);
  }
  return schemas.empty() ? Json(true) : Json{{"allOf", std::move(schemas)}};
}

Json Any(std::vector<Json> schemas) {
  if (schemas.size() == 1) {
    return std::move(schemas[0]);
  }
  return schemas.empty() ? Json(false) : Json{{"anyOf", std::move(schemas)}};
}

bool IsNameList(const Json& value) {
  return value.is_array() &&
         std::all_of(value.begin(), value.end(), [](const Json& name) { return name.is_string(); });
}

// The code points of a text, which is UTF-8, as they stand in a pattern.
std::vector<std::string> Characters(const std::string& text) {
  std::vector<std::string> out;
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i++]);
    uint32_t code = lead < 0x80   ? lead
                    : lead < 0xE0 ? lead & 0x1FU
                    : lead < 0xF0 ? lead & 0xFU
                                  : lead & 0x7U;
    while (i < text.size() && (static_cast<unsigned char>(text[i]) & 0xC0U) == 0x80) {
      code = code << 6 | (static_cast<unsigned char>(text[i++]) & 0x3FU);
    }
    char written[16];
    std::snprintf(written, sizeof(written), "\\u{%X}", static_cast<unsigned>(code));
    out.emplace_back(written);
  }
  return out;
}

// Texts, by their first characters.
struct Trie {
  std::map<std::string, std::unique_ptr<Trie>> next;
  bool ends = false;

  void Add(const std::string& text) {
    Trie* at = this;
    for (const std::string& character : Characters(text)) {
      auto& below = at->next[character];
      if (!below) {
        below = std::make_unique<Trie>();
      }
      at = below.get();
    }
    at->ends = true;
  }
  // Matches all texts but these.
  std::string Others() const {
    if (next.empty()) {
      return ends ? "[^]+" : "[^]*";
    }
    std::string first;
    std::string out = ends ? "(?:" : "(?:|";
    for (const auto& [character, rest] : next) {
      first += character;
      out += character + rest->Others() + "|";
    }
    return out + "[^" + first + "][^]*)";
  }
};

std::optional<Trie> TrieOf(const std::vector<std::string>& texts) {
  Trie trie;
  size_t size = 0;
  for (const std::string& text : texts) {
    size += text.size();
    if (size > kMostBytes || text.size() > kLongest) {
      return std::nullopt;
    }
    trie.Add(text);
  }
  return trie;
}

// What is none of these values: texts, booleans and null.
std::optional<Json> NoneOf(const Json& values) {
  std::vector<std::string> texts;
  std::set<Json> others;
  for (const Json& value : values) {
    if (value.is_string()) {
      texts.push_back(value);
    } else if (value.is_boolean() || value.is_null()) {
      others.insert(value);
    } else {
      return std::nullopt;
    }
  }
  Json types = {"array", "object", "number"};
  std::vector<Json> any;
  if (texts.empty()) {
    types.push_back("string");
  } else {
    const auto trie = TrieOf(texts);
    if (!trie) {
      return std::nullopt;
    }
    any.push_back({{"type", "string"}, {"pattern", "^" + trie->Others() + "$"}});
  }
  if (!others.contains(nullptr)) {
    types.push_back("null");
  }
  if (!others.contains(true) && !others.contains(false)) {
    types.push_back("boolean");
  } else if (!others.contains(true) || !others.contains(false)) {
    any.push_back({{"const", !others.contains(true)}});
  }
  any.push_back({{"type", std::move(types)}});
  return Any(std::move(any));
}

class Negation {
 public:
  explicit Negation(const SchemaDocument& document) : document_(document) {}

  std::optional<Json> Of(const Json& schema, int depth) const {
    if (schema.is_boolean()) {
      return schema == false;
    }
    if (!schema.is_object() || depth > kMaxDepth) {
      return std::nullopt;
    }
    if (const auto it = schema.find("$ref"); it != schema.end()) {
      const Json& target = document_.Dereferenced(schema, "");
      return &target == &schema ? std::nullopt : Of(target, depth + 1);
    }
    std::vector<Json> any;  // one keyword that does not hold is enough
    for (const auto& [keyword, value] : schema.items()) {
      if (kNotes.contains(keyword)) {
        continue;
      }
      const auto negated = OfKeyword(keyword, value, depth + 1);
      if (!negated) {
        return std::nullopt;
      }
      if (*negated != false) {
        any.push_back(*negated);
      }
    }
    return Any(std::move(any));
  }

 private:
  std::optional<Json> OfKeyword(const std::string& keyword, const Json& value, int depth) const {
    if (keyword == "type") {
      return OfTypes(value);
    }
    if (keyword == "required" && IsNameList(value)) {
      std::vector<Json> any;
      for (const Json& name : value) {
        any.push_back(Without(name));
      }
      if (any.empty()) {
        return false;
      }
      Json missing = Any(std::move(any));
      missing["type"] = "object";
      return missing;
    }
    if (keyword == "const") {
      return NoneOf(Json::array({value}));
    }
    if (keyword == "enum" && value.is_array()) {
      return NoneOf(value);
    }
    if (keyword == "properties" && value.is_object()) {
      return OfMembers(value, depth);
    }
    if (keyword == "not") {
      return value;
    }
    if ((keyword == "anyOf" || keyword == "allOf") && value.is_array() && !value.empty()) {
      std::vector<Json> negated;
      for (const Json& schema : value) {
        const auto one = Of(schema, depth);
        if (!one) {
          return std::nullopt;
        }
        negated.push_back(*one);
      }
      return keyword == "anyOf" ? All(std::move(negated)) : Any(std::move(negated));
    }
    return std::nullopt;
  }

  static std::optional<Json> OfTypes(const Json& value) {
    const Json types = value.is_array() ? value : Json::array({value});
    const auto has = [&](std::string_view type) {
      return std::find(types.begin(), types.end(), type) != types.end();
    };
    if (has("integer") && !has("number")) {  // numbers with a fraction have no name
      return std::nullopt;
    }
    Json others = Json::array();
    for (const std::string_view type : kTypes) {
      if (!has(type)) {
        others.push_back(type);
      }
    }
    return others.empty() ? Json(false) : Json{{"type", std::move(others)}};
  }

  std::optional<Json> OfMembers(const Json& members, int depth) const {
    std::vector<Json> any;
    for (const auto& [name, member] : members.items()) {
      const auto negated = Of(member, depth);
      if (!negated) {
        return std::nullopt;
      }
      if (*negated != false) {
        Json wrong = Members(name, *negated);
        wrong["type"] = "object";
        wrong["required"] = Json::array({name});
        any.push_back(std::move(wrong));
      }
    }
    return Any(std::move(any));
  }

  const SchemaDocument& document_;
};

// Of a schema, its keywords that are not only notes.
std::vector<std::string> Keys(const Json& schema) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : schema.items()) {
    if (!kNotes.contains(key)) {
      keys.push_back(key);
    }
  }
  return keys;
}

// The pattern of the texts that a schema allows as names.
std::optional<std::string> NamePattern(const Json& schema) {
  auto keys = Keys(schema);
  if (const auto it = std::find(keys.begin(), keys.end(), "type"); it != keys.end()) {
    if (schema["type"] != "string") {
      return std::nullopt;
    }
    keys.erase(it);
  }
  if (keys.empty()) {
    return "";
  }
  if (keys.size() == 1 && keys[0] == "pattern" && schema["pattern"].is_string()) {
    return schema["pattern"].get<std::string>();
  }
  if (keys.size() == 1 && keys[0] == "not" && schema["not"].is_object()) {
    const Json& never = schema["not"];
    const bool is_enum = never.contains("enum");
    if (Keys(never) != std::vector<std::string>{is_enum ? "enum" : "const"}) {
      return std::nullopt;
    }
    const Json values = is_enum ? never["enum"] : Json::array({never["const"]});
    const auto trie = IsNameList(values) ? TrieOf(values) : std::nullopt;
    return trie ? std::optional("^" + trie->Others() + "$") : std::nullopt;
  }
  if (keys.size() == 1 && keys[0] == "enum" && IsNameList(schema["enum"])) {
    std::string all;
    for (const Json& name : schema["enum"]) {
      all += all.empty() ? "" : "|";
      for (const std::string& character : Characters(name)) {
        all += character;
      }
    }
    return "^(?:" + all + ")$";
  }
  uint64_t least = 0;
  std::string most;
  for (const std::string& key : keys) {
    if ((key != "minLength" && key != "maxLength") || !schema[key].is_number_unsigned()) {
      return std::nullopt;
    }
    if (key == "minLength") {
      least = schema[key];
    } else {
      most = std::to_string(schema[key].get<uint64_t>());
    }
  }
  return "^[^]{" + std::to_string(least) + "," + most + "}$";
}

}  // namespace

std::optional<Json> Negated(const Json& schema, const SchemaDocument& document) {
  return Negation(document).Of(schema, 0);
}

std::optional<Json> Conditional(const Json& schema, const SchemaDocument& document) {
  const auto negated = Negated(schema["if"], document);
  if (!negated) {
    return std::nullopt;
  }
  std::vector<Json> met = {schema["if"]};
  std::vector<Json> otherwise = {*negated};
  if (schema.contains("then")) {
    met.push_back(schema["then"]);
  }
  if (schema.contains("else")) {
    otherwise.push_back(schema["else"]);
  }
  return Any({All(std::move(met)), All(std::move(otherwise))});
}

std::optional<Json> Dependencies(const Json& dependencies) {
  if (!dependencies.is_object()) {
    return std::nullopt;
  }
  std::vector<Json> all;
  for (const auto& [name, wanted] : dependencies.items()) {
    if (!IsNameList(wanted) && !wanted.is_object() && !wanted.is_boolean()) {
      return std::nullopt;
    }
    Json required = Json::array({name});
    if (wanted.is_array()) {
      required.insert(required.end(), wanted.begin(), wanted.end());
    }
    Json present = {{"type", "object"}, {"required", std::move(required)}};
    if (!wanted.is_array()) {
      present["allOf"] = Json::array({wanted});
    }
    all.push_back(Any({Without(name), std::move(present)}));
  }
  return All(std::move(all));
}

std::optional<Json> Names(const Json& names, const SchemaDocument& document) {
  const Json& schema = document.Dereferenced(names, "");
  if (schema.is_boolean()) {
    return schema == true ? Json(true) : Json{{"maxProperties", 0}};
  }
  const auto pattern = schema.is_object() ? NamePattern(schema) : std::nullopt;
  if (!pattern) {
    return std::nullopt;
  }
  if (pattern->empty()) {
    return true;
  }
  return Json{{"patternProperties", {{*pattern, true}}}, {"additionalProperties", false}};
}

std::optional<Json> Exclusive(const Json& options, const SchemaDocument& document) {
  if (options.size() < 2 || options.size() > kMostExclusive) {
    return std::nullopt;
  }
  std::vector<const Json*> all;
  std::set<std::string> kinds;
  for (const Json& option : options) {
    const Json& schema = document.Dereferenced(option, "");
    const auto keys = schema.is_object() ? Keys(schema) : std::vector<std::string>{};
    if (keys.size() != 1) {
      return std::nullopt;
    }
    all.push_back(&schema);
    kinds.insert(keys[0]);
  }
  if (kinds == std::set<std::string>{"type"}) {
    std::map<std::string, int> count;
    for (const Json* option : all) {
      const Json types =
          (*option)["type"].is_array() ? (*option)["type"] : Json::array({(*option)["type"]});
      if (!IsNameList(types)) {
        return std::nullopt;
      }
      for (const std::string& type : std::set<std::string>(types.begin(), types.end())) {
        ++count[type];
      }
    }
    if (count.contains("integer") && count.contains("number")) {
      return std::nullopt;
    }
    Json once = Json::array();
    for (const auto& [type, times] : count) {
      if (times == 1) {
        once.push_back(type);
      }
    }
    return once.empty() ? Json(false) : Json{{"type", std::move(once)}};
  }
  if (kinds != std::set<std::string>{"required"}) {
    return std::nullopt;
  }
  std::vector<Json> any;
  for (const Json* option : all) {
    std::vector<Json> parts = {*option};
    for (const Json* other : all) {
      if (other != option) {
        const auto negated = Negated(*other, document);
        if (!negated) {
          return std::nullopt;
        }
        parts.push_back(*negated);
      }
    }
    any.push_back(All(std::move(parts)));
  }
  return Any(std::move(any));
}

}  // namespace mach::grammar
