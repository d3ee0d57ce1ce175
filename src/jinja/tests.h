// Jinja's tests, the functions behind `value is name(arguments)` (not tests of this code).
// Stateless; any thread.
#pragma once

#include <string_view>

#include "jinja/value.h"

namespace mach::jinja {

struct TestEntry {
  std::string_view name;
  bool (*function)(const Value& value, CallArgs& args);
};

// Null if there is no such test.
const TestEntry* FindTest(std::string_view name);

}  // namespace mach::jinja
