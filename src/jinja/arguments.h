// The arguments of a call, bound to parameter names as Python does it: by position, then by
// keyword. For filters, tests, methods and functions that are written in C++. Belongs to one call.
#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "jinja/value.h"

namespace mach::jinja {

// Fails if there are any.
void RequireNoArguments(std::string_view function, const CallArgs& args);

class BoundArgs {
 public:
  // Fails with a TypeError's words on too many, unknown or repeated arguments, and where fewer than
  // `required` were given.
  BoundArgs(std::string_view function, const CallArgs& args,
            std::initializer_list<std::string_view> names, size_t required = 0);

  bool Has(size_t index) const { return values_[index].has_value(); }
  const Value& operator[](size_t index) const { return *values_[index]; }
  Value Or(size_t index, const Value& fallback) const {
    return values_[index] ? *values_[index] : fallback;
  }
  // Truthiness of an optional flag.
  bool Flag(size_t index, bool fallback = false) const;
  // An integer; fails if the value is something else.
  int64_t Integer(size_t index, int64_t fallback = 0) const;
  // A string; fails if the value is something else.
  std::string Text(size_t index, std::string_view fallback = {}) const;

 private:
  std::string function_;
  std::vector<std::optional<Value>> values_;
};

}  // namespace mach::jinja
