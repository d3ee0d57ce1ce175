// Names that every template can use without anybody passing them: range, namespace, dict,
// raise_exception, strftime_now, cycler, joiner. Stateless; any thread.
#pragma once

#include <optional>
#include <string_view>

#include "jinja/value.h"

namespace mach::jinja {

std::optional<Value> FindGlobal(std::string_view name);

}  // namespace mach::jinja
