// A schema document: its draft, and where its references lead. For use inside grammar/ only.
#pragma once

#include <optional>
#include <string>

#include <nlohmann/json.hpp>

namespace mach::grammar {

// Throws kInvalidArgument: what is wrong with a schema, and where in it.
[[noreturn]] void ThrowSchemaError(const std::string& path, const std::string& what);

// Borrows the document.
class SchemaDocument {
 public:
  using Json = nlohmann::ordered_json;

  explicit SchemaDocument(const Json& root);

  // Drafts 3 to 7: references stand alone, `items` may be a list.
  bool is_old_draft() const { return is_old_draft_; }

  // Whether it has an address of its own, from which references in it and into it are read.
  bool HasId(const Json& schema) const;

  // The pointer that a reference is, if it leads into this document.
  std::optional<std::string> Pointer(const Json& reference) const;
  // What is there. Throws if nothing is; `path` is where the reference stands.
  const Json& Target(const std::string& pointer, const std::string& path) const;
  // What a schema that is only a reference refers to; itself if it is none.
  const Json& Dereferenced(const Json& schema, const std::string& path) const;

 private:
  const Json& root_;
  bool is_old_draft_;
  const char* id_keyword_;
  std::string id_;  // the root's, without a fragment
};

}  // namespace mach::grammar
