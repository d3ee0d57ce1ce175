#include "chat/tool_schemas.h"

#include <array>
#include <functional>
#include <utility>

namespace mach::chat {
namespace {

using Json = nlohmann::ordered_json;

// Deep enough for schemas that people write, and an end for references that go round in circles.
constexpr int kMaxSchemaDepth = 12;

const Json* Member(const Json& object, std::string_view key) {
  if (!object.is_object()) {
    return nullptr;
  }
  const auto it = object.find(key);
  return it == object.end() ? nullptr : &*it;
}

void AddNamed(TypeSet& types, const Json& name) {
  if (!name.is_string()) {
    return;
  }
  const auto& text = name.get_ref<const std::string&>();
  types.null |= text == "null";
  types.boolean |= text == "boolean";
  types.integer |= text == "integer";
  types.number |= text == "number";
  types.string |= text == "string";
  types.array |= text == "array";
  types.object |= text == "object";
}

void AddTypeOf(TypeSet& types, const Json& value) {
  types.null |= value.is_null();
  types.boolean |= value.is_boolean();
  types.integer |= value.is_number_integer();
  types.number |= value.is_number_float();
  types.string |= value.is_string();
  types.array |= value.is_array();
  types.object |= value.is_object();
}

const Json* Resolve(const Json& root, const std::string& reference) {
  if (!reference.starts_with("#")) {
    return nullptr;
  }
  try {
    const Json::json_pointer pointer(reference.substr(1));
    return root.contains(pointer) ? &root.at(pointer) : nullptr;
  } catch (const Json::exception&) {
    return nullptr;
  }
}

}  // namespace

// Visits this schema and those it is composed of until `visit` returns true.
template <typename Visit>
bool SchemaRef::ForEach(const Visit& visit, int depth) const {
  if (schema_ == nullptr || depth > kMaxSchemaDepth) {
    return false;
  }
  if (visit(*schema_)) {
    return true;
  }
  for (const char* key : {"anyOf", "oneOf", "allOf"}) {
    const Json* choices = Member(*schema_, key);
    if (choices == nullptr || !choices->is_array()) {
      continue;
    }
    for (const Json& choice : *choices) {
      if (SchemaRef(&choice, root_).ForEach(visit, depth + 1)) {
        return true;
      }
    }
  }
  const Json* reference = Member(*schema_, "$ref");
  if (reference != nullptr && reference->is_string()) {
    return SchemaRef(Resolve(*root_, reference->get_ref<const std::string&>()), root_)
        .ForEach(visit, depth + 1);
  }
  return false;
}

TypeSet SchemaRef::Types() const {
  TypeSet types;
  bool any = false;
  ForEach(
      [&](const Json& schema) {
        if (const Json* type = Member(schema, "type"); type != nullptr) {
          any = true;
          if (type->is_array()) {
            for (const Json& name : *type) {
              AddNamed(types, name);
            }
          } else {
            AddNamed(types, *type);
          }
        }
        if (const Json* members = Member(schema, "enum");
            members != nullptr && members->is_array()) {
          for (const Json& member : *members) {
            any = true;
            AddTypeOf(types, member);
          }
        }
        if (const Json* member = Member(schema, "const"); member != nullptr) {
          any = true;
          AddTypeOf(types, *member);
        }
        return false;
      },
      0);
  types.string |= !any;
  return types;
}

SchemaRef SchemaRef::Property(std::string_view key) const {
  SchemaRef found;
  ForEach(
      [&](const Json& schema) {
        const Json* properties = Member(schema, "properties");
        const Json* property = properties == nullptr ? nullptr : Member(*properties, key);
        if (property == nullptr) {
          const Json* others = Member(schema, "additionalProperties");
          property = others != nullptr && others->is_object() ? others : nullptr;
        }
        found = property == nullptr ? SchemaRef() : SchemaRef(property, root_);
        return property != nullptr;
      },
      0);
  return found;
}

SchemaRef SchemaRef::Item() const {
  SchemaRef found;
  ForEach(
      [&](const Json& schema) {
        const Json* items = Member(schema, "items");
        if (items != nullptr && items->is_object()) {
          found = SchemaRef(items, root_);
        }
        return found.present();
      },
      0);
  return found;
}

const Json* ToolSchema::Properties() const {
  const Json* properties = Member(parameters_, "properties");
  return properties != nullptr && properties->is_object() && !properties->empty() ? properties
                                                                                  : nullptr;
}

SchemaRef ToolSchema::Parameter(std::string_view key) const {
  const Json* properties = Properties();
  const Json* property = properties == nullptr ? nullptr : Member(*properties, key);
  return property == nullptr ? SchemaRef() : SchemaRef(property, &parameters_);
}

ToolSchemas::ToolSchemas(const Json* tools) {
  if (tools == nullptr || !tools->is_array()) {
    return;
  }
  for (const Json& tool : *tools) {
    const Json* function = Member(tool, "function");
    const Json* name = function == nullptr ? nullptr : Member(*function, "name");
    if (name == nullptr || !name->is_string()) {
      continue;
    }
    const Json* parameters = Member(*function, "parameters");
    tools_.emplace(name->get<std::string>(),
                   ToolSchema(parameters == nullptr ? Json::object() : *parameters));
  }
}

const ToolSchema* ToolSchemas::Find(std::string_view name) const {
  const auto it = tools_.find(name);
  return it == tools_.end() ? nullptr : &it->second;
}

}  // namespace mach::chat
