// What comes of a JSON Schema before llguidance sees it: a schema with the keywords that are
// enforced and no other. For use inside grammar/ only.
#pragma once

#include <nlohmann/json.hpp>

#include "grammar/grammar.h"

namespace mach::grammar {

// Means the same as `schema` in draft 2020-12: local references lead to `$defs`, forms of older
// drafts are those of today, what only describes is gone, and so is what is neither of a draft nor
// ours. Throws kInvalidArgument, with path and name, for a keyword that cannot be enforced; kRelax
// leaves it out instead. What is no schema at all is refused in any case.
nlohmann::ordered_json Admit(const nlohmann::ordered_json& schema, Keywords keywords);

}  // namespace mach::grammar
