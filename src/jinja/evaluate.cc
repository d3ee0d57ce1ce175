// The expression half of the interpreter.
#include <utility>

#include "jinja/builtins.h"
#include "jinja/filters.h"
#include "jinja/interpreter.h"
#include "jinja/methods.h"
#include "jinja/operators.h"
#include "jinja/repr.h"
#include "jinja/tests.h"

namespace mach::jinja {

namespace {

[[noreturn]] void FailUndefined(const Value& value) {
  Fail(value.Get<UndefinedObject>().Message());
}

}  // namespace

Value Interpreter::Lookup(int symbol) {
  for (Scope* scope = scope_.get(); scope != nullptr; scope = scope->parent.get()) {
    if (const Value* value = scope->Find(symbol)) {
      return value->Is(Kind::kMissing) ? Value::UndefinedName(template_.symbols.Name(symbol))
                                       : *value;
    }
  }
  if (!context_[symbol].Is(Kind::kMissing)) {
    return context_[symbol];
  }
  const std::string& name = template_.symbols.Name(symbol);
  std::optional<Value> global = FindGlobal(name);
  return global ? std::move(*global) : Value::UndefinedName(name);
}

Value Interpreter::Eval(const Expr& expr) {
  Charge(1);
  switch (expr.kind) {
    case ExprKind::kConst:
      return expr.constant;
    case ExprKind::kName:
      return Lookup(expr.symbol);
    default: {
      const DepthGuard guard(this);
      return EvalInner(expr);
    }
  }
}

Value Interpreter::EvalInner(const Expr& expr) {
  switch (expr.kind) {
    case ExprKind::kTuple:
      return EvalTuple(expr, false);
    case ExprKind::kList:
      return EvalTuple(expr, true);
    case ExprKind::kDict:
      return EvalDict(expr);
    case ExprKind::kGetattr:
      return Attribute(Eval(*expr.children[0]), expr.text);
    case ExprKind::kGetitem:
      return EvalGetitem(expr);
    case ExprKind::kCall:
      return EvalCall(expr);
    case ExprKind::kFilter:
      return EvalFilter(expr, nullptr);
    case ExprKind::kTest:
      return Value::Bool(EvalTest(expr));
    case ExprKind::kNot:
    case ExprKind::kNegate:
    case ExprKind::kPlus:
      return EvalUnary(expr);
    case ExprKind::kAnd: {
      Value left = Eval(*expr.children[0]);
      return Truthy(left) ? Eval(*expr.children[1]) : left;
    }
    case ExprKind::kOr: {
      Value left = Eval(*expr.children[0]);
      return Truthy(left) ? left : Eval(*expr.children[1]);
    }
    case ExprKind::kCompare:
      return EvalCompare(expr);
    case ExprKind::kBinary: {
      const Value left = Eval(*expr.children[0]);
      Value result = Arithmetic(expr.op, left, Eval(*expr.children[1]));
      ChargeFor(result);
      return result;
    }
    case ExprKind::kConcat:
      return EvalConcat(expr);
    case ExprKind::kConditional:
      if (Truthy(Eval(*expr.children[0]))) {
        return Eval(*expr.children[1]);
      }
      return expr.children[2]
                 ? Eval(*expr.children[2])
                 : Value::UndefinedHint("the inline if-expression on line " +
                                        std::to_string(expr.line) +
                                        " evaluated to false and no else section was defined.");
    default:
      Fail("this expression cannot be evaluated");
  }
}

Value Interpreter::EvalUnary(const Expr& expr) {
  const Value value = Eval(*expr.children[0]);
  switch (expr.kind) {
    case ExprKind::kNegate:
      return Negate(value);
    case ExprKind::kPlus:
      return Plus(value);
    default:
      return Value::Bool(!Truthy(value));
  }
}

Value Interpreter::EvalTuple(const Expr& expr, bool list) {
  std::vector<Value> items;
  items.reserve(expr.children.size());
  for (const ExprPtr& child : expr.children) {
    items.push_back(Eval(*child));
  }
  return list ? Value::List(std::move(items)) : Value::Tuple(std::move(items));
}

Value Interpreter::EvalDict(const Expr& expr) {
  const auto dict = NewDict();
  for (size_t i = 0; i + 1 < expr.children.size(); i += 2) {
    const Value key = Eval(*expr.children[i]);
    dict->Set(key, Eval(*expr.children[i + 1]));
  }
  return DictValue(dict);
}

Value Interpreter::EvalGetitem(const Expr& expr) {
  const Value object = Eval(*expr.children[0]);
  if (expr.children[1]->kind == ExprKind::kSlice) {
    return EvalSlice(object, *expr.children[1]);
  }
  return Item(object, Eval(*expr.children[1]));
}

Value Interpreter::EvalSlice(const Value& object, const Expr& slice) {
  const auto bound = [&](size_t i) {
    return slice.children[i] ? Eval(*slice.children[i]) : Value::None();
  };
  if (object.IsUndefined()) {
    FailUndefined(object);
  }
  const Value start = bound(0);
  const Value stop = bound(1);
  Value result = Slice(object, start, stop, bound(2));
  ChargeFor(result);
  return result;
}

void Interpreter::UnpackArguments(const ArgumentList& arguments, CallArgs* args) {
  if (arguments.star) {
    for (Value& item : ToVector(Eval(*arguments.star))) {
      args->positional.push_back(std::move(item));
    }
  }
  if (!arguments.double_star) {
    return;
  }
  const Value mapping = Eval(*arguments.double_star);
  if (!mapping.Is(Kind::kDict)) {
    Fail(std::string("argument after ** must be a mapping, not ") + TypeName(mapping));
  }
  for (const auto& [key, value] : mapping.Dict().entries) {
    if (!key.IsString()) {
      Fail("keywords must be strings");
    }
    for (const auto& [existing, other] : args->keyword) {
      if (existing == key.Text()) {
        Fail("got multiple values for keyword argument '" + existing + "'");
      }
    }
    args->keyword.emplace_back(key.Text(), value);
  }
}

CallArgs Interpreter::EvalArguments(const ArgumentList* arguments) {
  CallArgs args;
  if (arguments == nullptr) {
    return args;
  }
  args.positional.reserve(arguments->positional.size());
  for (const ExprPtr& argument : arguments->positional) {
    args.positional.push_back(Eval(*argument));
  }
  for (const auto& [name, argument] : arguments->keyword) {
    args.keyword.emplace_back(name, Eval(*argument));
  }
  if (arguments->star || arguments->double_star) {
    UnpackArguments(*arguments, &args);
  }
  return args;
}

Value Interpreter::EvalCall(const Expr& expr) {
  return EvalCallWith(expr, nullptr);
}

Value Interpreter::EvalCallWith(const Expr& expr, const Value* caller) {
  const Expr& callee = *expr.children[0];
  // object.method(...) without a bound method in between.
  if (callee.kind == ExprKind::kGetattr) {
    const Value object = Eval(*callee.children[0]);
    if (const Method* method = FindMethod(object, callee.text)) {
      CallArgs args = EvalArguments(expr.arguments.get());
      if (caller != nullptr) {
        args.keyword.emplace_back("caller", *caller);
      }
      Value result = method->call(*this, object, args);
      ChargeFor(result);
      return result;
    }
    const Value function = Attribute(object, callee.text);
    CallArgs args = EvalArguments(expr.arguments.get());
    if (caller != nullptr) {
      args.keyword.emplace_back("caller", *caller);
    }
    return Call(function, args);
  }
  const Value function = Eval(callee);
  CallArgs args = EvalArguments(expr.arguments.get());
  if (caller != nullptr) {
    args.keyword.emplace_back("caller", *caller);
  }
  return Call(function, args);
}

Value Interpreter::Call(const Value& callee, CallArgs& args) {
  if (callee.IsUndefined()) {
    FailUndefined(callee);
  }
  if (!callee.Is(Kind::kCallable) && !callee.Is(Kind::kLoop)) {
    Fail(std::string("'") + TypeName(callee) + "' object is not callable");
  }
  const DepthGuard guard(this);
  Value result = callee.Get<CallableObject>().Call(*this, args);
  ChargeFor(result);
  return result;
}

Value Interpreter::EvalFilter(const Expr& expr, const Value* text) {
  if (expr.filter == nullptr) {
    Fail("No filter named '" + expr.text + "'.");
  }
  Value input;
  if (expr.children[0] == nullptr) {
    input = text != nullptr ? *text : Value::None();
  } else if (text != nullptr && expr.children[0]->kind == ExprKind::kFilter) {
    const DepthGuard guard(this);
    input = EvalFilter(*expr.children[0], text);
  } else {
    input = Eval(*expr.children[0]);
  }
  CallArgs args = EvalArguments(expr.arguments.get());
  Value result = expr.filter->function(*this, input, args);
  ChargeFor(result);
  return result;
}

bool Interpreter::EvalTest(const Expr& expr) {
  if (expr.test == nullptr) {
    Fail("No test named '" + expr.text + "'.");
  }
  const Value value = Eval(*expr.children[0]);
  CallArgs args = EvalArguments(expr.arguments.get());
  return expr.test->function(value, args);
}

Value Interpreter::EvalCompare(const Expr& expr) {
  Value left = Eval(*expr.children[0]);
  for (size_t i = 0; i < expr.ops.size(); ++i) {
    Value right = Eval(*expr.children[i + 1]);
    if (const std::optional<int64_t> length = Length(right)) {
      Charge(*length / 64);
    }
    if (!CompareWith(expr.ops[i], left, right)) {
      return Value::Bool(false);
    }
    left = std::move(right);
  }
  return Value::Bool(true);
}

Value Interpreter::EvalConcat(const Expr& expr) {
  std::string text;
  for (const ExprPtr& child : expr.children) {
    const Value value = Eval(*child);
    if (value.IsString()) {
      text += value.Text();
    } else {
      text += Str(value);
    }
    if (static_cast<int64_t>(text.size()) > kMaxStringBytes) {
      break;  // ChargeFor refuses it
    }
  }
  Value result = Value::String(std::move(text));
  ChargeFor(result);
  return result;
}

Value Interpreter::Attribute(const Value& object, std::string_view name) {
  switch (object.kind()) {
    case Kind::kUndefined:
      FailUndefined(object);
    case Kind::kDict: {
      if (const Method* method = FindMethod(object, name)) {
        return BindMethod(object, *method);
      }
      if (IsForbiddenMethod(object, name)) {
        return Value::UndefinedHint("access to attribute '" + std::string(name) +
                                    "' of 'dict' object is unsafe.");
      }
      const Value* value = object.Dict().Find(name);
      return value != nullptr ? *value : Value::UndefinedAttribute(object, name);
    }
    case Kind::kNamespace: {
      const Value* value =
          name.starts_with('_') ? nullptr : object.Get<NamespaceObject>().attributes.Find(name);
      return value != nullptr ? *value : Value::UndefinedAttribute(object, name);
    }
    case Kind::kLoop: {
      if (std::optional<Value> value = object.Get<LoopObject>().LoopAttribute(name)) {
        return std::move(*value);
      }
      break;
    }
    case Kind::kCallable:
      if (std::optional<Value> value = object.Get<CallableObject>().Attribute(name)) {
        return std::move(*value);
      }
      return Value::UndefinedAttribute(object, name);
    case Kind::kBool:
    case Kind::kInt:
      if (name == "real" || name == "numerator") {
        return Value::Int(object.AsInt());
      }
      if (name == "imag" || name == "denominator") {
        return Value::Int(name == "imag" ? 0 : 1);
      }
      break;
    case Kind::kFloat:
      if (name == "real" || name == "imag") {
        return Value::Float(name == "real" ? object.AsDouble() : 0);
      }
      break;
    default:
      break;
  }
  if (const Method* method = FindMethod(object, name)) {
    return BindMethod(object, *method);
  }
  if (IsForbiddenMethod(object, name)) {
    return Value::UndefinedHint("access to attribute '" + std::string(name) + "' of '" +
                                TypeName(object) + "' object is unsafe.");
  }
  return Value::UndefinedAttribute(object, name);
}

Value Interpreter::Item(const Value& object, const Value& key) {
  if (object.IsUndefined()) {
    FailUndefined(object);
  }
  if (object.Is(Kind::kDict)) {
    if (key.IsString()) {
      if (const Value* value = object.Dict().Find(key.Text())) {
        return *value;
      }
    } else if (!key.Is(Kind::kList) && !key.Is(Kind::kDict)) {
      const Value* value = object.Dict().Find(key);
      return value != nullptr ? *value : Value::UndefinedElement(object, key);
    }
  } else if (key.IsIntegral()) {
    const std::optional<int64_t> length =
        object.IsString() || object.IsSequence() || object.Is(Kind::kRange) ? Length(object)
                                                                            : std::nullopt;
    int64_t index = key.AsInt();
    if (length && index < 0) {
      index += *length;
    }
    if (!length || index < 0 || index >= *length) {
      return Value::UndefinedElement(object, key);
    }
    if (object.IsSequence()) {
      return object.Items()[index];
    }
    if (object.IsString()) {
      return Slice(object, Value::Int(index), Value::Int(index + 1), Value::None());
    }
    const RangeObject& range = object.Get<RangeObject>();
    return Value::Int(range.start + index * range.step);
  }
  return key.IsString() ? Attribute(object, key.Text()) : Value::UndefinedElement(object, key);
}

}  // namespace mach::jinja
