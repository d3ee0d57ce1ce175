#include "jinja/operators.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "jinja/filters.h"
#include "jinja/interpreter.h"
#include "jinja/repr.h"
#include "jinja/unicode.h"

namespace mach::jinja {

namespace {

const char* Symbol(Op op) {
  switch (op) {
    case Op::kAdd:
      return "+";
    case Op::kSubtract:
      return "-";
    case Op::kMultiply:
      return "*";
    case Op::kDivide:
      return "/";
    case Op::kFloorDivide:
      return "//";
    case Op::kModulo:
      return "%";
    case Op::kPower:
      return "** or pow()";
    case Op::kEqual:
      return "==";
    case Op::kNotEqual:
      return "!=";
    case Op::kLess:
      return "<";
    case Op::kLessEqual:
      return "<=";
    case Op::kGreater:
      return ">";
    case Op::kGreaterEqual:
      return ">=";
    case Op::kIn:
      return "in";
    case Op::kNotIn:
      return "not in";
  }
  return "?";
}

[[noreturn]] void FailOperands(Op op, const Value& left, const Value& right) {
  Fail(std::string("unsupported operand type(s) for ") + Symbol(op) + ": '" + TypeName(left) +
       "' and '" + TypeName(right) + "'");
}

[[noreturn]] void FailOverflow() {
  Fail("integer result does not fit 64 bits");
}

[[noreturn]] void FailZeroDivision() {
  Fail("division by zero");
}

double FloatModulo(double a, double b) {
  double result = std::fmod(a, b);
  if (result != 0) {
    if ((b < 0) != (result < 0)) {
      result += b;
    }
  } else {
    result = std::copysign(0.0, b);
  }
  return result;
}

// Python's float floor division: consistent with its modulo, not with floor(a / b).
double FloatFloorDivide(double a, double b) {
  const double modulo = std::fmod(a, b);
  double quotient = (a - modulo) / b;
  if (modulo != 0 && (b < 0) != (modulo < 0)) {
    quotient -= 1;
  }
  if (quotient == 0) {
    return std::copysign(0.0, a / b);
  }
  const double floor = std::floor(quotient);
  return quotient - floor > 0.5 ? floor + 1 : floor;
}

int64_t IntPower(int64_t base, int64_t exponent) {
  int64_t result = 1;
  while (exponent > 0) {
    if ((exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result)) {
      FailOverflow();
    }
    exponent >>= 1;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) {
      FailOverflow();
    }
  }
  return result;
}

Value FloatPower(double base, double exponent) {
  if (base == 0 && exponent < 0) {
    Fail("0.0 cannot be raised to a negative power");
  }
  if (base < 0 && std::isfinite(base) && std::isfinite(exponent) &&
      exponent != std::floor(exponent)) {
    Fail("complex numbers are not supported");
  }
  const double result = std::pow(base, exponent);
  if (std::isinf(result) && std::isfinite(base) && std::isfinite(exponent)) {
    Fail("Numerical result out of range");
  }
  return Value::Float(result);
}

Value IntArithmetic(Op op, int64_t a, int64_t b) {
  int64_t result = 0;
  switch (op) {
    case Op::kAdd:
      if (__builtin_add_overflow(a, b, &result)) {
        FailOverflow();
      }
      return Value::Int(result);
    case Op::kSubtract:
      if (__builtin_sub_overflow(a, b, &result)) {
        FailOverflow();
      }
      return Value::Int(result);
    case Op::kMultiply:
      if (__builtin_mul_overflow(a, b, &result)) {
        FailOverflow();
      }
      return Value::Int(result);
    case Op::kDivide:
      if (b == 0) {
        FailZeroDivision();
      }
      return Value::Float(
          static_cast<double>(static_cast<long double>(a) / static_cast<long double>(b)));
    case Op::kFloorDivide:
    case Op::kModulo: {
      if (b == 0) {
        FailZeroDivision();
      }
      if (b == -1) {
        return op == Op::kModulo ? Value::Int(0) : IntArithmetic(Op::kMultiply, a, -1);
      }
      int64_t quotient = a / b;
      int64_t modulo = a % b;
      if (modulo != 0 && (modulo < 0) != (b < 0)) {
        modulo += b;
        --quotient;
      }
      return Value::Int(op == Op::kModulo ? modulo : quotient);
    }
    default:
      return b < 0 ? FloatPower(static_cast<double>(a), static_cast<double>(b))
                   : Value::Int(IntPower(a, b));
  }
}

Value FloatArithmetic(Op op, double a, double b) {
  switch (op) {
    case Op::kAdd:
      return Value::Float(a + b);
    case Op::kSubtract:
      return Value::Float(a - b);
    case Op::kMultiply:
      return Value::Float(a * b);
    case Op::kDivide:
      if (b == 0) {
        FailZeroDivision();
      }
      return Value::Float(a / b);
    case Op::kFloorDivide:
      if (b == 0) {
        FailZeroDivision();
      }
      return Value::Float(FloatFloorDivide(a, b));
    case Op::kModulo:
      if (b == 0) {
        FailZeroDivision();
      }
      return Value::Float(FloatModulo(a, b));
    default:
      return FloatPower(a, b);
  }
}

Value Repeat(const Value& value, int64_t times) {
  times = std::max<int64_t>(times, 0);
  if (value.IsString()) {
    const std::string& text = value.Text();
    if (!text.empty() && times > kMaxStringBytes / static_cast<int64_t>(text.size())) {
      FailLimit("chat template made a text of more than " + std::to_string(kMaxStringBytes) +
                " bytes");
    }
    std::string result;
    result.reserve(text.size() * times);
    for (int64_t i = 0; i < times && !text.empty(); ++i) {
      result += text;
    }
    return Value::String(std::move(result), value.String().markup);
  }
  const std::vector<Value>& items = value.Items();
  if (!items.empty() && times > kMaxListItems / static_cast<int64_t>(items.size())) {
    FailLimit("chat template made a list of more than " + std::to_string(kMaxListItems) + " items");
  }
  std::vector<Value> result;
  for (int64_t i = 0; i < times && !items.empty(); ++i) {
    result.insert(result.end(), items.begin(), items.end());
  }
  return value.Is(Kind::kTuple) ? Value::Tuple(std::move(result)) : Value::List(std::move(result));
}

Value Add(const Value& left, const Value& right) {
  if (left.IsString() && right.IsString()) {
    const bool left_markup = left.String().markup;
    const bool right_markup = right.String().markup;
    if (left_markup == right_markup) {
      return Value::String(left.Text() + right.Text(), left_markup);
    }
    // Text that is added to markup is escaped, even though templates do not escape by themselves.
    return Value::String((left_markup ? left.Text() : EscapeHtml(left.Text())) +
                             (right_markup ? right.Text() : EscapeHtml(right.Text())),
                         true);
  }
  if (left.IsSequence() && left.kind() == right.kind()) {
    std::vector<Value> items = left.Items();
    items.insert(items.end(), right.Items().begin(), right.Items().end());
    if (static_cast<int64_t>(items.size()) > kMaxListItems) {
      FailLimit("chat template made a list of more than " + std::to_string(kMaxListItems) +
                " items");
    }
    return left.Is(Kind::kTuple) ? Value::Tuple(std::move(items)) : Value::List(std::move(items));
  }
  if (left.IsString() && !left.String().markup) {
    Fail(std::string("can only concatenate str (not \"") + TypeName(right) + "\") to str");
  }
  FailOperands(Op::kAdd, left, right);
}

}  // namespace

Value Arithmetic(Op op, const Value& left, const Value& right) {
  if (left.IsIntegral() && right.IsIntegral()) {
    return IntArithmetic(op, left.AsInt(), right.AsInt());
  }
  if (left.IsNumber() && right.IsNumber()) {
    return FloatArithmetic(op, left.AsDouble(), right.AsDouble());
  }
  // "..." % undefined asks the string first, which formats it as nothing.
  if (op == Op::kModulo && left.IsString()) {
    return PercentFormat(left, right);
  }
  for (const Value* side : {&left, &right}) {
    if (side->IsUndefined()) {
      Fail(side->Get<UndefinedObject>().Message());
    }
  }
  if (op == Op::kAdd) {
    return Add(left, right);
  }
  if (op == Op::kMultiply) {
    if ((left.IsString() || left.IsSequence()) && right.IsIntegral()) {
      return Repeat(left, right.AsInt());
    }
    if ((right.IsString() || right.IsSequence()) && left.IsIntegral()) {
      return Repeat(right, left.AsInt());
    }
  }
  FailOperands(op, left, right);
}

Value Negate(const Value& value) {
  if (value.IsIntegral()) {
    return IntArithmetic(Op::kSubtract, 0, value.AsInt());
  }
  if (value.Is(Kind::kFloat)) {
    return Value::Float(-value.AsDouble());
  }
  if (value.IsUndefined()) {
    Fail(value.Get<UndefinedObject>().Message());
  }
  Fail(std::string("bad operand type for unary -: '") + TypeName(value) + "'");
}

Value Plus(const Value& value) {
  if (value.IsIntegral()) {
    return Value::Int(value.AsInt());
  }
  if (value.Is(Kind::kFloat)) {
    return value;
  }
  if (value.IsUndefined()) {
    Fail(value.Get<UndefinedObject>().Message());
  }
  Fail(std::string("bad operand type for unary +: '") + TypeName(value) + "'");
}

bool CompareWith(Op op, const Value& left, const Value& right) {
  switch (op) {
    case Op::kEqual:
      return Equal(left, right);
    case Op::kNotEqual:
      return !Equal(left, right);
    case Op::kIn:
      return Contains(right, left);
    case Op::kNotIn:
      return !Contains(right, left);
    default:
      break;
  }
  const Ordering ordering = Compare(left, right, Symbol(op));
  if (ordering.unordered) {
    return false;
  }
  switch (op) {
    case Op::kLess:
      return ordering.sign < 0;
    case Op::kLessEqual:
      return ordering.sign <= 0;
    case Op::kGreater:
      return ordering.sign > 0;
    default:
      return ordering.sign >= 0;
  }
}

SliceBounds ResolveSlice(const Value& start, const Value& stop, const Value& step, int64_t length) {
  for (const Value* bound : {&start, &stop, &step}) {
    if (!bound->IsNone() && !bound->IsIntegral()) {
      Fail("slice indices must be integers or None or have an __index__ method");
    }
  }
  SliceBounds bounds;
  bounds.step = step.IsNone() ? 1 : step.AsInt();
  if (bounds.step == 0) {
    Fail("slice step cannot be zero");
  }
  bounds.step = std::max<int64_t>(bounds.step, -INT64_MAX);
  const bool forward = bounds.step > 0;
  const int64_t low = forward ? 0 : -1;
  const int64_t high = forward ? length : length - 1;
  const auto clamp = [&](const Value& bound, int64_t fallback) {
    if (bound.IsNone()) {
      return fallback;
    }
    int64_t index = bound.AsInt();
    if (index < 0) {
      index = index < -length ? low : std::max(index + length, low);
    }
    return std::min(index, high);
  };
  bounds.start = clamp(start, forward ? low : high);
  const int64_t end = clamp(stop, forward ? high : low);
  if (forward) {
    bounds.count = bounds.start < end ? (end - bounds.start - 1) / bounds.step + 1 : 0;
  } else {
    bounds.count = bounds.start > end ? (bounds.start - end - 1) / -bounds.step + 1 : 0;
  }
  return bounds;
}

namespace {

Value SliceText(const Value& object, const SliceBounds& bounds) {
  const StringObject& string = object.String();
  const std::string& text = string.text;
  std::string out;
  if (bounds.count == 0) {
    return Value::String("", string.markup);
  }
  if (bounds.step == 1) {
    const size_t begin = string.is_ascii() ? bounds.start : OffsetOf(text, bounds.start);
    const size_t size = string.is_ascii()
                            ? bounds.count
                            : OffsetOf(std::string_view(text).substr(begin), bounds.count);
    return Value::String(text.substr(begin, size), string.markup);
  }
  std::vector<size_t> offsets;
  for (size_t i = 0; i < text.size(); i += DecodeAt(text, i).size_bytes) {
    offsets.push_back(i);
  }
  offsets.push_back(text.size());
  int64_t index = bounds.start;
  for (int64_t i = 0; i < bounds.count; ++i) {
    out.append(text, offsets[index], offsets[index + 1] - offsets[index]);
    // The last step may lead out of int64's range.
    if (i + 1 < bounds.count) {
      index += bounds.step;
    }
  }
  return Value::String(std::move(out), string.markup);
}

}  // namespace

Value Slice(const Value& object, const Value& start, const Value& stop, const Value& step) {
  if (!object.IsString() && !object.IsSequence() && !object.Is(Kind::kRange)) {
    if (object.Is(Kind::kDict)) {
      Fail("unhashable type: 'slice'");
    }
    Fail(std::string("'") + TypeName(object) + "' object is not subscriptable");
  }
  const SliceBounds bounds = ResolveSlice(start, stop, step, *Length(object));
  if (object.IsString()) {
    return SliceText(object, bounds);
  }
  if (object.Is(Kind::kRange)) {
    const RangeObject& range = object.Get<RangeObject>();
    const int64_t new_step = range.step * bounds.step;
    const int64_t new_start = range.start + range.step * bounds.start;
    return Value::Range(new_start, new_start + new_step * bounds.count, new_step);
  }
  std::vector<Value> items;
  items.reserve(bounds.count);
  int64_t index = bounds.start;
  for (int64_t i = 0; i < bounds.count; ++i) {
    items.push_back(object.Items()[index]);
    if (i + 1 < bounds.count) {
      index += bounds.step;
    }
  }
  return object.Is(Kind::kTuple) ? Value::Tuple(std::move(items)) : Value::List(std::move(items));
}

}  // namespace mach::jinja
