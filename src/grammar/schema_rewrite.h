// What some keywords of a schema mean in the words of others that a grammar can enforce. For use
// inside grammar/ only.
//
// All take a schema as its author wrote it and return one in the same draft, to be admitted like
// any other. Exact: what one allows the other does. Nothing where that cannot be said, of which the
// caller makes a refusal.
#pragma once

#include <optional>

#include <nlohmann/json.hpp>

#include "grammar/schema_document.h"

namespace mach::grammar {

// What does not match `schema`: of types, required members, values, members, and what they are put
// together from.
std::optional<nlohmann::ordered_json> Negated(const nlohmann::ordered_json& schema,
                                              const SchemaDocument& document);

// `if`, `then` and `else` of `schema`.
std::optional<nlohmann::ordered_json> Conditional(const nlohmann::ordered_json& schema,
                                                  const SchemaDocument& document);

// The value of `dependencies`, `dependentRequired` or `dependentSchemas`.
std::optional<nlohmann::ordered_json> Dependencies(const nlohmann::ordered_json& dependencies);

// The value of `propertyNames`.
std::optional<nlohmann::ordered_json> Names(const nlohmann::ordered_json& names,
                                            const SchemaDocument& document);

// The value of `oneOf` where its alternatives are only types, or only required members.
std::optional<nlohmann::ordered_json> Exclusive(const nlohmann::ordered_json& options,
                                                const SchemaDocument& document);

}  // namespace mach::grammar
