#include "text/json_fields.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "text/unicode.h"

namespace mach::text {

using nlohmann::json;

JsonFields::JsonFields(const json& value, std::string_view source, std::string_view component)
    : json_(value), source_(source), component_(component) {
  if (!json_.is_object()) {
    Fail("not an object");
  }
}

void JsonFields::Fail(std::string_view problem) const {
  throw Error(ErrorCode::kCorruptFile,
              std::string(source_) + ": " + std::string(component_) + ": " + std::string(problem));
}

void JsonFields::UnsupportedType(std::string_view type) const {
  throw Error(ErrorCode::kUnsupported, std::string(source_) + ": " + std::string(component_) +
                                           " of type \"" + std::string(type) +
                                           "\" is not implemented");
}

const json& JsonFields::Field(const char* name) const {
  const auto found = json_.find(name);
  if (found == json_.end()) {
    Fail("no field \"" + std::string(name) + "\"");
  }
  return *found;
}

bool JsonFields::Has(const char* name) const {
  const auto found = json_.find(name);
  return found != json_.end() && !found->is_null();
}

std::string JsonFields::String(const char* name) const {
  const json& field = Field(name);
  if (!field.is_string()) {
    Fail("\"" + std::string(name) + "\" is not a string");
  }
  return field.get<std::string>();
}

bool JsonFields::Bool(const char* name) const {
  const json& field = Field(name);
  if (!field.is_boolean()) {
    Fail("\"" + std::string(name) + "\" is neither true nor false");
  }
  return field.get<bool>();
}

bool JsonFields::Bool(const char* name, bool fallback) const {
  return Has(name) ? Bool(name) : fallback;
}

uint32_t JsonFields::Unsigned(const char* name) const {
  const json& field = Field(name);
  if (!field.is_number_unsigned() || field.get<uint64_t>() > UINT32_MAX) {
    Fail("\"" + std::string(name) + "\" is not a whole number of 0 to 2^32-1");
  }
  return field.get<uint32_t>();
}

char32_t JsonFields::Char(const char* name) const {
  const std::string text = String(name);
  if (text.empty() || DecodeAt(text.data()).size != text.size()) {
    Fail("\"" + std::string(name) + "\" is not one character");
  }
  return DecodeAt(text.data()).code;
}

const json& JsonFields::Array(const char* name) const {
  const json& field = Field(name);
  if (!field.is_array()) {
    Fail("\"" + std::string(name) + "\" is not a list");
  }
  return field;
}

const json& JsonFields::Object(const char* name) const {
  const json& field = Field(name);
  if (!field.is_object()) {
    Fail("\"" + std::string(name) + "\" is not an object");
  }
  return field;
}

std::unique_ptr<Pattern> JsonFields::PatternField(const char* name) const {
  const JsonFields pattern(Object(name), source_, component_);
  if (pattern.Has("String")) {
    return Pattern::Literal(pattern.String("String"));
  }
  const std::string where = std::string(source_) + ": " + std::string(component_);
  return Pattern::Regex(pattern.String("Regex"), where);
}

}  // namespace mach::text
