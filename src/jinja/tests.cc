#include "jinja/tests.h"

#include <algorithm>
#include <array>
#include <string>

#include "jinja/arguments.h"
#include "jinja/ast.h"
#include "jinja/filters.h"
#include "jinja/operators.h"
#include "jinja/repr.h"
#include "jinja/unicode.h"

namespace mach::jinja {

namespace {

void NoArguments(const CallArgs& args) {
  RequireNoArguments("test", args);
}

template <Kind... kKinds>
bool IsKind(const Value& value, CallArgs& args) {
  NoArguments(args);
  return ((value.kind() == kKinds) || ...);
}

bool IsDefined(const Value& value, CallArgs& args) {
  NoArguments(args);
  return !value.IsUndefined();
}

template <bool kWanted>
bool IsExactly(const Value& value, CallArgs& args) {
  NoArguments(args);
  return value.Is(Kind::kBool) && value.AsBool() == kWanted;
}

bool IsIterableTest(const Value& value, CallArgs& args) {
  NoArguments(args);
  return IsIterable(value) || value.Is(Kind::kLoop);
}

// Has a length and elements that can be asked for: dict views have only the first.
bool IsSequenceTest(const Value& value, CallArgs& args) {
  NoArguments(args);
  return Length(value).has_value() && !value.Is(Kind::kView);
}

bool IsCallable(const Value& value, CallArgs& args) {
  NoArguments(args);
  return value.Is(Kind::kCallable) || value.Is(Kind::kLoop) || value.IsUndefined();
}

template <bool kUpper>
bool IsCase(const Value& value, CallArgs& args) {
  NoArguments(args);
  return IsCased(Str(value), kUpper);
}

bool Remainder(const Value& value, const Value& divisor, int64_t wanted) {
  return Equal(Arithmetic(Op::kModulo, value, divisor), Value::Int(wanted));
}

template <int kWanted>
bool IsParity(const Value& value, CallArgs& args) {
  NoArguments(args);
  return Remainder(value, Value::Int(2), kWanted);
}

bool IsDivisibleBy(const Value& value, CallArgs& args) {
  const BoundArgs bound("divisibleby", args, {"num"}, 1);
  return Remainder(value, bound[0], 0);
}

template <Op kOp>
bool Compares(const Value& value, CallArgs& args) {
  const BoundArgs bound("comparison", args, {"other"}, 1);
  return CompareWith(kOp, value, bound[0]);
}

bool IsIn(const Value& value, CallArgs& args) {
  const BoundArgs bound("in", args, {"seq"}, 1);
  return Contains(bound[0], value);
}

bool IsSameAs(const Value& value, CallArgs& args) {
  const BoundArgs bound("sameas", args, {"other"}, 1);
  return Identical(value, bound[0]);
}

constexpr auto kTests = std::to_array<TestEntry>({
    {"!=", Compares<Op::kNotEqual>},
    {"<", Compares<Op::kLess>},
    {"<=", Compares<Op::kLessEqual>},
    {"==", Compares<Op::kEqual>},
    {">", Compares<Op::kGreater>},
    {">=", Compares<Op::kGreaterEqual>},
    {"boolean", IsKind<Kind::kBool>},
    {"callable", IsCallable},
    {"defined", IsDefined},
    {"divisibleby", IsDivisibleBy},
    {"eq", Compares<Op::kEqual>},
    {"equalto", Compares<Op::kEqual>},
    {"even", IsParity<0>},
    {"false", IsExactly<false>},
    {"float", IsKind<Kind::kFloat>},
    {"ge", Compares<Op::kGreaterEqual>},
    {"greaterthan", Compares<Op::kGreater>},
    {"gt", Compares<Op::kGreater>},
    {"in", IsIn},
    {"integer", IsKind<Kind::kInt, Kind::kBigInt>},
    {"iterable", IsIterableTest},
    {"le", Compares<Op::kLessEqual>},
    {"lessthan", Compares<Op::kLess>},
    {"lower", IsCase<false>},
    {"lt", Compares<Op::kLess>},
    {"mapping", IsKind<Kind::kDict>},
    {"ne", Compares<Op::kNotEqual>},
    {"none", IsKind<Kind::kNone>},
    {"number", IsKind<Kind::kInt, Kind::kBigInt, Kind::kFloat, Kind::kBool>},
    {"odd", IsParity<1>},
    {"sameas", IsSameAs},
    {"sequence", IsSequenceTest},
    {"string", IsKind<Kind::kString>},
    {"true", IsExactly<true>},
    {"undefined", IsKind<Kind::kUndefined>},
    {"upper", IsCase<true>},
});

}  // namespace

const TestEntry* FindTest(std::string_view name) {
  const auto* it = std::find_if(kTests.begin(), kTests.end(),
                                [name](const TestEntry& entry) { return entry.name == name; });
  return it == kTests.end() ? nullptr : &*it;
}

}  // namespace mach::jinja
