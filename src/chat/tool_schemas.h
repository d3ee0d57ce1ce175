// The declared tools as parsers see them: which parameters a call may have, and of which types.
// Copies what it needs. For use inside chat/ only; immutable, any thread.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace mach::chat {

struct TypeSet {
  bool null = false;
  bool boolean = false;
  bool integer = false;
  bool number = false;
  bool string = false;
  bool array = false;
  bool object = false;

  bool OnlyString() const {
    return string && !null && !boolean && !integer && !number && !array && !object;
  }
};

// A schema within the document that its local references point into. Null = no schema.
class SchemaRef {
 public:
  using Json = nlohmann::ordered_json;

  SchemaRef() = default;
  SchemaRef(const Json* schema, const Json* root) : schema_(schema), root_(root) {}

  bool present() const { return schema_ != nullptr; }
  // From `type`, enum and const members, anyOf, oneOf, allOf and local references; none = string.
  TypeSet Types() const;
  // Schemas of an object's member and of an array's items; absent where the schema has none.
  SchemaRef Property(std::string_view key) const;
  SchemaRef Item() const;

 private:
  template <typename Visit>
  bool ForEach(const Visit& visit, int depth) const;

  const Json* schema_ = nullptr;
  const Json* root_ = nullptr;
};

class ToolSchema {
 public:
  explicit ToolSchema(nlohmann::ordered_json parameters) : parameters_(std::move(parameters)) {}

  bool has_properties() const { return Properties() != nullptr; }
  bool Declares(std::string_view key) const { return Parameter(key).present(); }
  SchemaRef Parameter(std::string_view key) const;
  SchemaRef root() const { return {&parameters_, &parameters_}; }

 private:
  const nlohmann::ordered_json* Properties() const;

  nlohmann::ordered_json parameters_;
};

class ToolSchemas {
 public:
  // `tools` is the request's array, or null. Entries without a function name are passed over.
  explicit ToolSchemas(const nlohmann::ordered_json* tools);

  const ToolSchema* Find(std::string_view name) const;  // null if not declared

 private:
  std::map<std::string, ToolSchema, std::less<>> tools_;
};

}  // namespace mach::chat
