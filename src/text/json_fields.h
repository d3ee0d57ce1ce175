// Checked access to the fields of one component of a tokenizer.json (a normalizer, a decoder, ...).
// Borrows the JSON. Every member throws kCorruptFile naming source, component and field where the
// field is missing or of the wrong kind.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "text/pattern.h"

namespace mach::text {

class JsonFields {
 public:
  // `component` names it in messages.
  JsonFields(const nlohmann::json& json, std::string_view source, std::string_view component);

  std::string String(const char* name) const;
  bool Bool(const char* name) const;
  bool Bool(const char* name, bool fallback) const;
  uint32_t Unsigned(const char* name) const;
  // A string of exactly one character.
  char32_t Char(const char* name) const;
  const nlohmann::json& Array(const char* name) const;
  const nlohmann::json& Object(const char* name) const;
  bool Has(const char* name) const;
  // {"String": "..."} or {"Regex": "..."}.
  std::unique_ptr<Pattern> PatternField(const char* name) const;

  [[noreturn]] void Fail(std::string_view problem) const;
  // Throws kUnsupported: this component's type is not implemented.
  [[noreturn]] void UnsupportedType(std::string_view type) const;

 private:
  const nlohmann::json& Field(const char* name) const;

  const nlohmann::json& json_;
  std::string_view source_;
  std::string_view component_;
};

}  // namespace mach::text
