// The `loop` variable and macros as objects.
#include <utility>

#include "jinja/interpreter.h"
#include "jinja/repr.h"

namespace mach::jinja {

LoopObject::LoopObject(Value items, int depth0_value)
    : iterable(std::move(items)), iterator(iterable), depth0(depth0_value) {
  static_cast<void>(DepthAbove(iterable));
}

bool LoopObject::PeekNext() {
  if (ahead.empty()) {
    std::optional<Value> item = iterator.Next();
    if (!item) {
      return false;
    }
    ahead.push_back(std::move(*item));
  }
  return true;
}

bool LoopObject::Advance() {
  if (!PeekNext()) {
    return false;
  }
  ++index0;
  before = std::move(current);
  current = std::move(ahead.front());
  ahead.pop_front();
  return true;
}

int64_t LoopObject::TotalLength() {
  if (!length) {
    length = Length(iterable);
  }
  if (!length) {
    while (std::optional<Value> item = iterator.Next()) {
      ahead.push_back(std::move(*item));
    }
    length = static_cast<int64_t>(ahead.size()) + index0 + 1;
  }
  return *length;
}

Value LoopObject::Call(Interpreter& interpreter, CallArgs& args) {
  if (args.positional.size() != 1 || !args.keyword.empty()) {
    Fail("loop() takes exactly one argument");
  }
  return Value::String(interpreter.CallLoop(this, args.positional[0]));
}

std::string LoopObject::Repr() const {
  return "<LoopContext " + std::to_string(index0 + 1) + ">";
}

std::optional<Value> LoopObject::LoopAttribute(std::string_view name) {
  if (name == "index") {
    return Value::Int(index0 + 1);
  }
  if (name == "index0") {
    return Value::Int(index0);
  }
  if (name == "first") {
    return Value::Bool(index0 == 0);
  }
  if (name == "last") {
    return Value::Bool(!PeekNext());
  }
  if (name == "length") {
    return Value::Int(TotalLength());
  }
  if (name == "revindex") {
    return Value::Int(TotalLength() - index0);
  }
  if (name == "revindex0") {
    return Value::Int(TotalLength() - index0 - 1);
  }
  if (name == "previtem") {
    return before && index0 > 0 ? *before : Value::UndefinedHint("there is no previous item");
  }
  if (name == "nextitem") {
    return PeekNext() ? ahead.front() : Value::UndefinedHint("there is no next item");
  }
  if (name == "depth") {
    return Value::Int(depth0 + 1);
  }
  if (name == "depth0") {
    return Value::Int(depth0);
  }
  return std::nullopt;
}

Value MacroObject::Call(Interpreter& interpreter, CallArgs& args) {
  return interpreter.CallMacro(*this, args);
}

std::string MacroObject::Repr() const {
  return "<Macro " + StringRepr(definition->name) + ">";
}

std::optional<Value> MacroObject::Attribute(std::string_view name) const {
  if (name == "name") {
    return Value::String(definition->name);
  }
  if (name == "arguments") {
    std::vector<Value> names;
    for (const std::string& parameter : definition->parameter_names) {
      names.push_back(Value::String(parameter));
    }
    return Value::Tuple(std::move(names));
  }
  if (name == "caller") {
    return Value::Bool(definition->uses_caller);
  }
  if (name == "catch_kwargs") {
    return Value::Bool(definition->uses_kwargs);
  }
  if (name == "catch_varargs") {
    return Value::Bool(definition->uses_varargs);
  }
  return std::nullopt;
}

}  // namespace mach::jinja
