// What Jinja decides when it compiles a template and what therefore holds for every rendering:
// which names are local to a scope from its very beginning, and that every filter and test exists.
#pragma once

#include "jinja/ast.h"

namespace mach::jinja {

// Fills in the `hidden` lists. Throws mach::Error(kCorruptFile) on unknown filters and tests
// outside of conditions.
void Analyze(Template* result);

}  // namespace mach::jinja
