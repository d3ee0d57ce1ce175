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
#include "grammar/schema_document.h"
#include "grammar/schema_rewrite.h"
#include "grammar/schema_text.h"
#include "grammar/string_formats.h"

namespace mach::grammar {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kMaxDepth = 100;
constexpr size_t kMaxNodes = 20000;
const std::set<std::string_view> kTypes = {"null",   "boolean", "integer", "number",
                                           "string", "array",   "object"};
// Keywords of some draft that change what is valid and are enforced where others say the same.
constexpr const char* kRewritten[] = {
    "not", "if", "propertyNames", "dependencies", "dependentRequired", "dependentSchemas"};
// And those that are not enforced.
const std::set<std::string_view> kRefused = {
    "contains", "unevaluatedItems", "unevaluatedProperties", "$dynamicRef", "$recursiveRef"};

bool SaysNothing(const Json& value) {
  return value == true || value == Json::object();
}

class Gate {
 public:
  Gate(const Json& root, Keywords keywords)
      : root_(root),
        document_(root),
        relax_(keywords == Keywords::kRelax),
        old_draft_(document_.is_old_draft()) {}

  Json Run() {
    Json out = Node(root_, "", 0);
    if (out.is_boolean()) {
      out = out == true ? Json::object() : Json{{"enum", Json::array()}};
    }
    Json defs = Json::object();
    while (!pending_.empty()) {
      const auto [pointer, name] = pending_.back();
      pending_.pop_back();
      defs[name] = Node(document_.Target(pointer, pointer), pointer, 0);
    }
    if (!defs.empty()) {
      out["$defs"] = std::move(defs);
      if (!IsFinite(out)) {
        ThrowSchemaError("", "'$ref' leads round without an end, or to what allows nothing");
      }
    }
    return out;
  }

 private:
  // Of a keyword that cannot be enforced.
  void Refuse(const std::string& path, std::string_view keyword,
              const std::string& why = "") const {
    if (!relax_) {
      ThrowSchemaError(path, "'" + std::string(keyword) + "' cannot be enforced" + why);
    }
  }

  Json Node(const Json& schema, const std::string& path, int depth) {
    if (schema.is_boolean()) {
      return schema;
    }
    if (!schema.is_object()) {
      ThrowSchemaError(path, "a schema is an object or a boolean");
    }
    if (depth > kMaxDepth || ++nodes_ > kMaxNodes) {
      ThrowSchemaError(path, "too deep or too large");
    }
    if (document_.HasId(schema) && !(old_draft_ && schema.contains("$ref"))) {
      Refuse(path, "$id", " inside a schema");
    }
    Json out = Json::object();
    if (old_draft_ && schema.contains("$ref")) {
      Reference(schema, path, out);
      return out;
    }
    const auto rewritten = Rewritten(schema, path);
    Type(schema, path, out);
    Object(schema, path, depth, out);
    Array(schema, path, depth, out);
    String(schema, path, out);
    Number(schema, path, out);
    Values(schema, path, out);
    Applicators(schema, path, depth, out);
    for (const auto& [keyword, same] : rewritten) {
      out["allOf"].push_back(Node(same, path + "/" + keyword, depth + 1));
    }
    Reference(schema, path, out);
    return out;
  }

  // What no grammar knows, in words that one does: keyword and schema. Refuses what has none.
  std::vector<std::pair<std::string, Json>> Rewritten(const Json& schema,
                                                      const std::string& path) const {
    std::vector<std::pair<std::string, Json>> all;
    for (const char* name : kRewritten) {
      const std::string keyword = name;
      const auto it = schema.find(keyword);
      if (it == schema.end() ||
          (keyword == "if" && !schema.contains("then") && !schema.contains("else"))) {
        continue;
      }
      // What is left out for being beyond us should not make a grammar larger.
      const auto same = relax_                       ? std::nullopt
                        : keyword == "not"           ? Negated(*it, document_)
                        : keyword == "if"            ? Conditional(schema, document_)
                        : keyword == "propertyNames" ? Names(*it, document_)
                                                     : Dependencies(*it);
      if (!same) {
        Refuse(path, keyword);
      } else if (*same != true) {
        all.emplace_back(keyword, *same);
      }
    }
    for (const std::string_view keyword : kRefused) {
      const auto it = schema.find(keyword);
      if (it == schema.end() || (keyword != "contains" && SaysNothing(*it)) ||
          (keyword == "unevaluatedProperties" && IsPlainObject(schema))) {
        continue;
      }
      Refuse(path, keyword);
    }
    return all;
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
        ThrowSchemaError(path + "/type", "no such type: " + type.dump());
      }
    }
    if (types.empty()) {
      ThrowSchemaError(path + "/type", "no type at all");
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
      ThrowSchemaError(path,
                       "'" + std::string(keyword) + "' is a whole number from 0 to 1000000000");
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
        ThrowSchemaError(path, "'" + std::string(keyword) + "' is an object");
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
        ThrowSchemaError(path, "'required' is a list of names");
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
        ThrowSchemaError(path, "'prefixItems' is a list");
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
        ThrowSchemaError(path, "'pattern' is a text");
      }
      if (const auto pattern = Pattern(it->get<std::string>(), path + "/pattern")) {
        out["pattern"] = *pattern;
      }
    }
    if (const auto it = schema.find("format"); it != schema.end() && it->is_string()) {
      const auto& name = it->get_ref<const std::string&>();
      const FormatSupport support = SupportOf(name);
      const auto patterns = FormatPatterns(name);
      for (const std::string& pattern : patterns) {
        if (out.contains("pattern")) {
          out["allOf"].push_back({{"pattern", pattern}});
        } else {
          out["pattern"] = pattern;
        }
      }
      if (support == FormatSupport::kEnforced && patterns.empty()) {
        out["format"] = *it;
      } else if (support == FormatSupport::kNotEnforced) {
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
        ThrowSchemaError(path, "'" + std::string(keyword) + "' is a number");
      }
      if (!(std::abs(it->get<double>()) <= kMaxExact)) {
        Refuse(path, keyword, ": " + it->dump() + " is too large");
        continue;
      }
      out[keyword] = *it;
    }
  }

  void Values(const Json& schema, const std::string& path, Json& out) const {
    for (const char* keyword : {"enum", "const"}) {
      const auto it = schema.find(keyword);
      if (it == schema.end()) {
        continue;
      }
      if (std::string_view(keyword) == "enum" && !it->is_array()) {
        ThrowSchemaError(path, "'enum' is a list");
      }
      if (const std::string why = Unwritable(*it); !why.empty()) {
        Refuse(path, keyword, ": " + why);
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
        ThrowSchemaError(path, "'" + std::string(keyword) + "' is a list that is not empty");
      }
      if (std::string_view(keyword) == "oneOf" && !relax_) {
        if (const auto same = Exclusive(*it, document_)) {
          out["allOf"].push_back(Node(*same, path + "/oneOf", depth + 1));
          continue;
        }
      }
      Json nodes = out.value(keyword, Json::array());
      for (size_t i = 0; i < it->size(); ++i) {
        const std::string below = path + "/" + keyword + "/" + std::to_string(i);
        // Alternatives exclude each other only as far as can be seen.
        const Json& option = std::string_view(keyword) == "oneOf"
                                 ? document_.Dereferenced((*it)[i], below)
                                 : (*it)[i];
        nodes.push_back(Node(option, below, depth + 1));
      }
      out[keyword] = std::move(nodes);
    }
  }

  void Reference(const Json& schema, const std::string& path, Json& out) {
    const auto it = schema.find("$ref");
    if (it == schema.end()) {
      return;
    }
    const auto pointer = document_.Pointer(*it);
    if (!pointer) {
      Refuse(path, "$ref", " unless it is a pointer into the schema itself: " + it->dump());
      return;
    }
    document_.Target(*pointer, path);
    auto [name, is_new] = names_.try_emplace(*pointer, std::to_string(names_.size()));
    if (is_new) {
      pending_.emplace_back(*pointer, name->second);
    }
    out["$ref"] = "#/$defs/" + name->second;
  }

  const Json& root_;
  const SchemaDocument document_;
  const bool relax_;
  const bool old_draft_;
  size_t nodes_ = 0;
  std::map<std::string, std::string> names_;                  // of pointers, in $defs
  std::vector<std::pair<std::string, std::string>> pending_;  // pointer, name
};

}  // namespace

Json Admit(const Json& schema, Keywords keywords) {
  return Gate(schema, keywords).Run();
}

}  // namespace mach::grammar
