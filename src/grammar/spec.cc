#include <cmath>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "grammar/grammar.h"
#include "grammar/schema_gate.h"
#include "grammar/schema_text.h"

namespace mach::grammar {
namespace {

// Between the parts of a document: a space, or up to two line ends and an indentation. Bounded, so
// that no model can go on with it for ever.
constexpr const char* kWhitespace = R"( |\n{1,2}[ ]{0,80}|\n{1,2}\t{1,20})";

// What may follow a backslash in a string. Without \u each text has one spelling, so that no member
// that a schema names can come again under another. Other control characters cannot be written.
constexpr const char* kEscapes = R"(nrbtf\")";

}  // namespace

std::string SchemaText(nlohmann::ordered_json admitted, Keywords keywords) {
  admitted["x-guidance"] = {{"whitespace_pattern", kWhitespace},
                            {"json_allowed_escapes", kEscapes},
                            {"lenient", keywords == Keywords::kRelax}};
  return admitted.dump();
}

std::string Unwritable(const nlohmann::ordered_json& value) {
  if (value.is_structured()) {
    for (const auto& member : value) {
      if (std::string why = Unwritable(member); !why.empty()) {
        return why;
      }
    }
  }
  if (value.is_number() && std::abs(value.get<double>()) > kMaxExact) {
    return value.dump() + " is too large";
  }
  if (value.is_string()) {
    for (const char c : value.get_ref<const std::string&>()) {
      const bool has_escape = std::string_view("\b\f\n\r\t").find(c) != std::string_view::npos;
      if ((static_cast<unsigned char>(c) < 0x20 && !has_escape) || c == 0x7F) {
        return "a control character cannot be written";
      }
    }
  }
  return "";
}

Spec Spec::JsonObject() {
  return JsonSchema({{"type", "object"}});
}

Spec Spec::JsonSchema(const nlohmann::ordered_json& schema, Keywords keywords) {
  return Lark("start: LEAD? document\nLEAD: / |\\n{1,2}/\ndocument: %json " +
              SchemaText(Admit(schema, keywords), keywords) + "\n");
}

}  // namespace mach::grammar
