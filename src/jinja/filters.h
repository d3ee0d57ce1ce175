// Jinja's filters, the functions behind `value | name(arguments)`: a look-up by name, and what the
// source files that hold them share. Stateless; any thread.
#pragma once

#include <string>
#include <string_view>

#include "jinja/value.h"

namespace mach::jinja {

using FilterFunction = Value (*)(Interpreter& interpreter, const Value& input, CallArgs& args);

struct FilterEntry {
  std::string_view name;
  FilterFunction function;
};

// Null if there is no such filter.
const FilterEntry* FindFilter(std::string_view name);

// The tables FindFilter searches, one per source file.
const FilterEntry* FindTextFilter(std::string_view name);
const FilterEntry* FindSequenceFilter(std::string_view name);
const FilterEntry* FindNumberFilter(std::string_view name);
const FilterEntry* FindSelectionFilter(std::string_view name);

// "a.b.0" as Jinja's attribute filters look it up. `fallback` replaces undefined on the way unless
// it is null.
Value LookupPath(Interpreter& interpreter, const Value& object, const Value& path,
                 const Value* fallback = nullptr);
// Jinja's escape filter on text.
std::string EscapeHtml(std::string_view text);
// Strings in lower case, everything else as it is.
Value IgnoreCase(const Value& value);

}  // namespace mach::jinja
