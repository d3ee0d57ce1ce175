// The methods of str, list, dict, tuple, int and float that the sandbox lets templates call.
#pragma once

#include <string_view>

#include "jinja/value.h"

namespace mach::jinja {

struct Method {
  std::string_view name;
  Value (*call)(Interpreter& interpreter, const Value& self, CallArgs& args);
};

// Null if the type has no such method that may be called.
const Method* FindMethod(const Value& object, std::string_view name);
// Methods that would change a list or dict: the sandbox answers them with an undefined.
bool IsForbiddenMethod(const Value& object, std::string_view name);
// object.method as a value of its own.
Value BindMethod(const Value& object, const Method& method);

// The three tables behind FindMethod.
const Method* FindStringMethod(std::string_view name);
const Method* FindContainerMethod(const Value& object, std::string_view name);

}  // namespace mach::jinja
