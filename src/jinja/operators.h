// What + - * / // % **, comparisons and slices do in a template: what Python does, with Python's
// words where types do not fit. Stateless; any thread.
#pragma once

#include "jinja/ast.h"
#include "jinja/value.h"

namespace mach::jinja {

// + - * / // % **; fails with Python's words where the types do not fit.
Value Arithmetic(Op op, const Value& left, const Value& right);
Value Negate(const Value& value);
Value Plus(const Value& value);
// One link of a comparison chain.
bool CompareWith(Op op, const Value& left, const Value& right);
// The bounds of a Python slice over `length` items.
struct SliceBounds {
  int64_t start = 0;
  int64_t step = 1;
  int64_t count = 0;
};
SliceBounds ResolveSlice(const Value& start, const Value& stop, const Value& step, int64_t length);
Value Slice(const Value& object, const Value& start, const Value& stop, const Value& step);

}  // namespace mach::jinja
