#include "grammar/schema_document.h"

#include <algorithm>
#include <cstdio>
#include <initializer_list>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "text/unicode.h"

namespace mach::grammar {
namespace {

using Json = nlohmann::ordered_json;

bool IsOfDraft(const Json& schema, std::initializer_list<const char*> drafts) {
  if (!schema.is_object() || !schema.contains("$schema") || !schema["$schema"].is_string()) {
    return false;
  }
  const auto name = schema["$schema"].get<std::string>();
  return std::any_of(drafts.begin(), drafts.end(), [&](const char* draft) {
    return name.find(std::string("json-schema.org/draft-") + draft) != std::string::npos;
  });
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

std::string PercentDecoded(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    unsigned code = 0;
    if (text[i] == '%' && std::sscanf(text.c_str() + i + 1, "%2x", &code) == 1) {
      out += static_cast<char>(code);
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

// A step of a JSON pointer, whose `~1` is a slash and `~0` a tilde.
std::string Unescaped(std::string key) {
  for (const auto& [escape, text] : {std::pair("~1", "/"), std::pair("~0", "~")}) {
    for (size_t i = key.find(escape); i != std::string::npos; i = key.find(escape, i + 1)) {
      key.replace(i, 2, text);
    }
  }
  return key;
}

bool IsIndex(const std::string& key, size_t size) {
  return !key.empty() && key.size() < 8 &&
         key.find_first_not_of("0123456789") == std::string::npos && std::stoul(key) < size;
}

// Names and values of a schema may be long, and a message is to be read.
std::string Shortened(const std::string& text) {
  constexpr size_t kMostBytes = 300;
  if (text.size() <= kMostBytes) {
    return text;
  }
  const auto begin = std::string_view(text).substr(0, kMostBytes);
  return std::string(begin.substr(0, text::ValidUtf8Prefix(begin))) + "…";
}

}  // namespace

void ThrowSchemaError(const std::string& path, const std::string& what) {
  throw Error(ErrorCode::kInvalidArgument,
              "schema" + (path.empty() ? "" : " at " + Shortened(path)) + ": " + Shortened(what));
}

SchemaDocument::SchemaDocument(const Json& root)
    : root_(root),
      is_old_draft_(IsOfDraft(root, {"03", "04", "06", "07"})),
      id_keyword_(IsOfDraft(root, {"03", "04"}) ? "id" : "$id") {
  if (root.is_object() && root.contains(id_keyword_) && root[id_keyword_].is_string()) {
    id_ = root[id_keyword_].get<std::string>();
    while (id_.ends_with('#')) {
      id_.pop_back();
    }
  }
}

bool SchemaDocument::HasId(const Json& schema) const {
  if (!schema.is_object() || !schema.contains(id_keyword_) || !schema[id_keyword_].is_string() ||
      &schema == &root_) {
    return false;
  }
  // In old drafts only a name for the place, where it is no more than a fragment.
  return !(is_old_draft_ && schema[id_keyword_].get_ref<const std::string&>().starts_with('#'));
}

std::optional<std::string> SchemaDocument::Pointer(const Json& reference) const {
  if (!reference.is_string()) {
    return std::nullopt;
  }
  std::string text = reference.get<std::string>();
  if (!id_.empty() && text.starts_with(id_)) {
    text.erase(0, id_.size());
    if (text.empty()) {
      text = "#";
    }
  }
  if (text == "#" || text == "#/") {
    return "";
  }
  return text.starts_with("#/") ? std::optional(PercentDecoded(text.substr(1))) : std::nullopt;
}

const Json& SchemaDocument::Target(const std::string& pointer, const std::string& path) const {
  const Json* node = &root_;
  size_t at = 0;
  while (at < pointer.size()) {
    const size_t end = std::min(pointer.find('/', at + 1), pointer.size());
    const std::string key = Unescaped(pointer.substr(at + 1, end - at - 1));
    at = end;
    if (HasId(*node)) {
      ThrowSchemaError(path, "'$ref' cannot lead into a schema with an '$id' of its own");
    }
    if (node->is_array() && IsIndex(key, node->size())) {
      node = &(*node)[std::stoul(key)];
    } else if (node->is_object() && node->contains(key)) {
      node = &(*node)[key];
    } else {
      ThrowSchemaError(path, "'$ref' leads nowhere: #" + pointer);
    }
  }
  return *node;
}

const Json& SchemaDocument::Dereferenced(const Json& schema, const std::string& path) const {
  const Json* at = &schema;
  for (int hops = 0; hops < 8 && at->is_object() && at->contains("$ref"); ++hops) {
    const auto pointer = Pointer((*at)["$ref"]);
    if (!pointer || !(is_old_draft_ || IsBareReference(*at))) {
      break;
    }
    at = &Target(*pointer, path);
  }
  return *at;
}

}  // namespace mach::grammar
