#include <string>

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

Spec Spec::JsonObject() {
  return JsonSchema({{"type", "object"}});
}

Spec Spec::JsonSchema(const nlohmann::ordered_json& schema, Keywords keywords) {
  return Lark("start: LEAD? document\nLEAD: / |\\n{1,2}/\ndocument: %json " +
              SchemaText(Admit(schema, keywords), keywords) + "\n");
}

}  // namespace mach::grammar
