#include "grammar/finite.h"

#include <algorithm>
#include <set>
#include <string>

namespace mach::grammar {
namespace {

using Json = nlohmann::ordered_json;

class Ends {
 public:
  explicit Ends(const std::set<std::string>& ending) : ending_(ending) {}

  bool operator()(const Json& schema) const {
    if (!schema.is_object()) {
      return schema != false;
    }
    if (const auto it = schema.find("$ref"); it != schema.end() && !ending_.contains(*it)) {
      return false;
    }
    if (const auto it = schema.find("allOf");
        it != schema.end() && !std::all_of(it->begin(), it->end(), *this)) {
      return false;
    }
    for (const char* keyword : {"anyOf", "oneOf"}) {
      if (const auto it = schema.find(keyword);
          it != schema.end() && std::none_of(it->begin(), it->end(), *this)) {
        return false;
      }
    }
    if (schema.contains("enum") || schema.contains("const") || !schema.contains("type")) {
      return true;
    }
    const Json& type = schema["type"];
    if (!type.is_array()) {
      return OfType(schema, type);
    }
    return std::any_of(type.begin(), type.end(),
                       [&](const Json& name) { return OfType(schema, name); });
  }

 private:
  bool OfType(const Json& schema, const Json& type) const {
    if (type == "array") {
      const size_t least = schema.value("minItems", size_t{0});
      const Json first = schema.value("prefixItems", Json::array());
      return std::all_of(first.begin(),
                         first.begin() + static_cast<ptrdiff_t>(std::min(least, first.size())),
                         *this) &&
             (least <= first.size() || (*this)(schema.value("items", Json(true))));
    }
    if (type == "object") {
      const Json members = schema.value("properties", Json::object());
      for (const Json& name : schema.value("required", Json::array())) {
        const auto it = members.find(name.get<std::string>());
        if (it != members.end() && !(*this)(*it)) {
          return false;
        }
      }
    }
    return true;
  }

  const std::set<std::string>& ending_;
};

}  // namespace

bool IsFinite(const Json& admitted) {
  const Json defs = admitted.value("$defs", Json::object());
  std::set<std::string> ending;
  for (bool more = true; more;) {
    more = false;
    for (const auto& [name, schema] : defs.items()) {
      const std::string reference = "#/$defs/" + name;
      if (!ending.contains(reference) && Ends(ending)(schema)) {
        ending.insert(reference);
        more = true;
      }
    }
  }
  return ending.size() == defs.size() && Ends(ending)(admitted);
}

}  // namespace mach::grammar
