#include "jinja/builtins.h"

#include <algorithm>
#include <array>
#include <ctime>
#include <string>
#include <vector>

#include "jinja/arguments.h"
#include "jinja/interpreter.h"
#include "jinja/repr.h"

namespace mach::jinja {

namespace {

constexpr int64_t kMaxRange = 100000;

struct GlobalFunction final : CallableObject {
  using Function = Value (*)(Interpreter& interpreter, CallArgs& args);

  GlobalFunction(const char* name_in, Function function_in)
      : name(name_in), function(function_in) {}

  const char* name;
  Function function;

  Value Call(Interpreter& interpreter, CallArgs& args) override {
    return function(interpreter, args);
  }
  std::string Repr() const override { return std::string("<function ") + name + ">"; }
};

Value RangeFunction(Interpreter&, CallArgs& args) {
  if (!args.keyword.empty()) {
    Fail("range() takes no keyword arguments");
  }
  const BoundArgs bound("range", args, {"start", "stop", "step"}, 1);
  const bool single = !bound.Has(1);
  RangeObject range;
  range.start = single ? 0 : bound.Integer(0);
  range.stop = single ? bound.Integer(0) : bound.Integer(1);
  range.step = bound.Integer(2, 1);
  if (range.step == 0) {
    Fail("range() arg 3 must not be zero");
  }
  constexpr int64_t kFar = INT64_MAX / 4;
  for (const int64_t bound_value : {range.start, range.stop, range.step}) {
    if (bound_value > kFar || bound_value < -kFar) {
      Fail("range() bounds are too large");
    }
  }
  if (range.size() > kMaxRange) {
    Fail("Range too big. The sandbox blocks ranges larger than MAX_RANGE (100000).");
  }
  return Value::Range(range.start, range.stop, range.step);
}

// dict(...): from a mapping or pairs, then keywords.
void FillDict(const CallArgs& args, DictObject* dict) {
  if (args.positional.size() > 1) {
    Fail("dict expected at most 1 argument, got " + std::to_string(args.positional.size()));
  }
  if (!args.positional.empty()) {
    const Value& source = args.positional[0];
    if (source.Is(Kind::kDict)) {
      for (const auto& [key, value] : source.Dict().entries) {
        dict->Set(key, value);
      }
    } else {
      for (const Value& pair : ToVector(source)) {
        const std::vector<Value> items = ToVector(pair);
        if (items.size() != 2) {
          Fail("dictionary update sequence element has length " + std::to_string(items.size()) +
               "; 2 is required");
        }
        dict->Set(items[0], items[1]);
      }
    }
  }
  for (const auto& [name, value] : args.keyword) {
    dict->Set(name, value);
  }
}

Value DictFunction(Interpreter&, CallArgs& args) {
  const auto dict = NewDict();
  FillDict(args, dict.get());
  return DictValue(dict);
}

Value NamespaceFunction(Interpreter& interpreter, CallArgs& args) {
  Value result = interpreter.NewNamespace();
  DictObject& attributes = result.Get<NamespaceObject>().attributes;
  FillDict(args, &attributes);
  for (const auto& [key, value] : attributes.entries) {
    if (key.IsString() && key.Text().starts_with('_')) {
      Fail("Chat templates cannot store underscore-prefixed attributes on a namespace, but got '" +
           key.Text() + "'. Please rename the attribute.");
    }
  }
  return result;
}

Value RaiseFunction(Interpreter& interpreter, CallArgs& args) {
  const BoundArgs bound("raise_exception", args, {"message"}, 1);
  interpreter.Raise(Str(bound[0]));
}

Value StrftimeFunction(Interpreter& interpreter, CallArgs& args) {
  const BoundArgs bound("strftime_now", args, {"format"}, 1);
  const std::string wanted = bound.Text(0);
  // A naive datetime: no zone, no fraction of a second.
  std::string format;
  for (size_t i = 0; i < wanted.size(); ++i) {
    const char next = wanted[i] == '%' && i + 1 < wanted.size() ? wanted[i + 1] : '\0';
    if (next == 'f') {
      format += "000000";
      ++i;
    } else if (next == 'z' || next == 'Z') {
      ++i;
    } else if (next != '\0') {
      format += wanted.substr(i++, 2);
    } else {
      format += wanted[i];
    }
  }
  const auto now = static_cast<time_t>(interpreter.now_unix_s());
  std::tm local = {};
  if (localtime_r(&now, &local) == nullptr) {
    Fail("strftime_now: the time is out of range");
  }
  // Nothing strftime writes is longer than about 50 characters per directive.
  std::vector<char> buffer(format.size() * 64 + 64);
  const size_t size = std::strftime(buffer.data(), buffer.size(), format.c_str(), &local);
  return Value::String(std::string(buffer.data(), size));
}

struct CyclerState {
  std::vector<Value> items;
  size_t position = 0;
  int depth = 1;
};

struct CyclerMethod final : CallableObject {
  std::shared_ptr<CyclerState> state;
  bool advance = false;

  Value Call(Interpreter&, CallArgs& args) override {
    RequireNoArguments("cycler", args);
    if (!advance) {
      state->position = 0;
      return Value::None();
    }
    Value item = state->items[state->position];
    state->position = (state->position + 1) % state->items.size();
    return item;
  }
  std::string Repr() const override { return "<bound method of Cycler>"; }
  int depth() const override { return state->depth + 1; }
};

struct CyclerObject final : CallableObject {
  std::shared_ptr<CyclerState> state = std::make_shared<CyclerState>();

  Value Call(Interpreter&, CallArgs&) override { Fail("'Cycler' object is not callable"); }
  std::string Repr() const override { return "<Cycler>"; }
  int depth() const override { return state->depth; }
  std::optional<Value> Attribute(std::string_view name) const override {
    if (name == "current") {
      return state->items[state->position];
    }
    if (name == "pos") {
      return Value::Int(static_cast<int64_t>(state->position));
    }
    if (name == "next" || name == "reset") {
      auto method = std::make_shared<CyclerMethod>();
      method->state = state;
      method->advance = name == "next";
      return Value::FromObject(Kind::kCallable, std::move(method));
    }
    return std::nullopt;
  }
};

Value CyclerFunction(Interpreter&, CallArgs& args) {
  if (args.positional.empty() || !args.keyword.empty()) {
    Fail("at least one item has to be provided");
  }
  auto cycler = std::make_shared<CyclerObject>();
  for (const Value& item : args.positional) {
    cycler->state->depth = std::max(cycler->state->depth, DepthAbove(item));
  }
  cycler->state->items = args.positional;
  return Value::FromObject(Kind::kCallable, std::move(cycler));
}

struct JoinerObject final : CallableObject {
  std::string separator;
  bool used = false;

  Value Call(Interpreter&, CallArgs& args) override {
    RequireNoArguments("joiner", args);
    if (!used) {
      used = true;
      return Value::String("");
    }
    return Value::String(separator);
  }
  std::string Repr() const override { return "<Joiner>"; }
};

Value JoinerFunction(Interpreter&, CallArgs& args) {
  const BoundArgs bound("joiner", args, {"sep"});
  auto joiner = std::make_shared<JoinerObject>();
  joiner->separator = bound.Text(0, ", ");
  return Value::FromObject(Kind::kCallable, std::move(joiner));
}

// Stands for the template itself, whose named blocks Jinja offers as attributes.
Value SelfFunction(Interpreter&, CallArgs&) {
  Fail("'TemplateReference' object is not callable");
}

const std::array<std::pair<std::string_view, Value>, 8>& Globals() {
  static const auto kGlobals = [] {
    const auto function = [](const char* name, GlobalFunction::Function body) {
      return std::pair<std::string_view, Value>(
          name, Value::FromObject(Kind::kCallable, std::make_shared<GlobalFunction>(name, body)));
    };
    return std::array<std::pair<std::string_view, Value>, 8>{
        function("range", RangeFunction),           function("dict", DictFunction),
        function("namespace", NamespaceFunction),   function("raise_exception", RaiseFunction),
        function("strftime_now", StrftimeFunction), function("joiner", JoinerFunction),
        function("cycler", CyclerFunction),         function("self", SelfFunction)};
  }();
  return kGlobals;
}

}  // namespace

std::optional<Value> FindGlobal(std::string_view name) {
  for (const auto& [global, value] : Globals()) {
    if (global == name) {
      return value;
    }
  }
  return std::nullopt;
}

}  // namespace mach::jinja
