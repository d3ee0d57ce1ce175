// Whether a schema with references to itself allows anything that ends. For use inside grammar/
// only.
#pragma once

#include <nlohmann/json.hpp>

namespace mach::grammar {

// Of a schema of Admit: the root and each of its `$defs` allow a finite value, as far as
// references, types and required parts decide that.
bool IsFinite(const nlohmann::ordered_json& admitted);

}  // namespace mach::grammar
