// Methods of dict, list, tuple, int and float, and bound methods as values.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <utility>

#include "jinja/arguments.h"
#include "jinja/interpreter.h"
#include "jinja/methods.h"

namespace mach::jinja {

namespace {

template <ViewObject::Which kWhich>
Value ViewMethod(Interpreter&, const Value& self, CallArgs& args) {
  RequireNoArguments("items", args);
  auto view = std::make_shared<ViewObject>();
  view->which = kWhich;
  view->dict = self;
  return Value::FromObject(Kind::kView, std::move(view));
}

Value GetMethod(Interpreter&, const Value& self, CallArgs& args) {
  if (!args.keyword.empty()) {
    Fail("dict.get() takes no keyword arguments");
  }
  const BoundArgs bound("get", args, {"key", "default"}, 1);
  const Value* value = self.Dict().Find(bound[0]);
  return value != nullptr ? *value : bound.Or(1, Value::None());
}

Value CopyMethod(Interpreter&, const Value& self, CallArgs& args) {
  RequireNoArguments("copy", args);
  return self;
}

Value CountMethod(Interpreter&, const Value& self, CallArgs& args) {
  const BoundArgs bound("count", args, {"value"}, 1);
  return Value::Int(std::count_if(self.Items().begin(), self.Items().end(),
                                  [&](const Value& item) { return Equal(item, bound[0]); }));
}

Value IndexMethod(Interpreter&, const Value& self, CallArgs& args) {
  const BoundArgs bound("index", args, {"value", "start", "stop"}, 1);
  const auto size = static_cast<int64_t>(self.Items().size());
  const auto position = [&](size_t index, int64_t fallback) {
    const int64_t value = bound.Integer(index, fallback);
    return std::clamp<int64_t>(value < 0 ? std::max(value, -size) + size : value, 0, size);
  };
  const int64_t stop = position(2, size);
  for (int64_t i = position(1, 0); i < stop; ++i) {
    if (Equal(self.Items()[i], bound[0])) {
      return Value::Int(i);
    }
  }
  Fail("value is not in list");
}

Value BitLengthMethod(Interpreter&, const Value& self, CallArgs& args) {
  RequireNoArguments("bit_length", args);
  const int64_t value = self.AsInt();
  return Value::Int(
      std::bit_width(value < 0 ? -static_cast<uint64_t>(value) : static_cast<uint64_t>(value)));
}

Value IsIntegerMethod(Interpreter&, const Value& self, CallArgs& args) {
  RequireNoArguments("is_integer", args);
  const double value = self.AsDouble();
  return Value::Bool(std::isfinite(value) && value == std::floor(value));
}

constexpr auto kDictMethods = std::to_array<Method>({
    {"copy", CopyMethod},
    {"get", GetMethod},
    {"items", ViewMethod<ViewObject::Which::kItems>},
    {"keys", ViewMethod<ViewObject::Which::kKeys>},
    {"values", ViewMethod<ViewObject::Which::kValues>},
});
constexpr auto kListMethods = std::to_array<Method>({
    {"count", CountMethod}, {"index", IndexMethod}, {"copy", CopyMethod},  // last: tuples have none
});
constexpr Method kBitLength = {"bit_length", BitLengthMethod};
constexpr Method kIsInteger = {"is_integer", IsIntegerMethod};

constexpr std::array<std::string_view, 5> kDictForbidden = {"clear", "pop", "popitem", "setdefault",
                                                            "update"};
constexpr std::array<std::string_view, 8> kListForbidden = {"append", "clear",  "extend",  "insert",
                                                            "pop",    "remove", "reverse", "sort"};

template <typename Table>
const Method* Search(const Table& table, std::string_view name) {
  for (const Method& method : table) {
    if (method.name == name) {
      return &method;
    }
  }
  return nullptr;
}

struct BoundMethod final : CallableObject {
  Value self;
  const Method* method = nullptr;

  Value Call(Interpreter& interpreter, CallArgs& args) override {
    return method->call(interpreter, self, args);
  }
  std::string Repr() const override {
    return "<built-in method " + std::string(method->name) + " of " + TypeName(self) + " object>";
  }
  int depth() const override { return Depth(self) + 1; }
};

Value CycleMethod(Interpreter&, const Value& self, CallArgs& args) {
  if (args.positional.empty()) {
    Fail("no items for cycling given");
  }
  return args.positional[self.Get<LoopObject>().index0 % args.positional.size()];
}

Value ChangedMethod(Interpreter&, const Value& self, CallArgs& args) {
  LoopObject& loop = self.Get<LoopObject>();
  Value values = Value::Tuple(args.positional);
  if (loop.last_changed && Equal(*loop.last_changed, values)) {
    return Value::Bool(false);
  }
  loop.last_changed = std::move(values);
  return Value::Bool(true);
}

constexpr Method kCycle = {"cycle", CycleMethod};
constexpr Method kChanged = {"changed", ChangedMethod};

}  // namespace

const Method* FindContainerMethod(const Value& object, std::string_view name) {
  switch (object.kind()) {
    case Kind::kDict:
      return Search(kDictMethods, name);
    case Kind::kList:
      return Search(kListMethods, name);
    case Kind::kTuple:
      return name == "copy" ? nullptr : Search(kListMethods, name);
    case Kind::kBool:
    case Kind::kInt:
      return name == kBitLength.name ? &kBitLength : nullptr;
    case Kind::kFloat:
      return name == kIsInteger.name ? &kIsInteger : nullptr;
    case Kind::kLoop:
      return name == kCycle.name ? &kCycle : name == kChanged.name ? &kChanged : nullptr;
    default:
      return nullptr;
  }
}

const Method* FindMethod(const Value& object, std::string_view name) {
  return object.IsString() ? FindStringMethod(name) : FindContainerMethod(object, name);
}

bool IsForbiddenMethod(const Value& object, std::string_view name) {
  const auto in = [name](const auto& names) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  return (object.Is(Kind::kDict) && in(kDictForbidden)) ||
         (object.Is(Kind::kList) && in(kListForbidden));
}

Value BindMethod(const Value& object, const Method& method) {
  static_cast<void>(DepthAbove(object));
  auto bound = std::make_shared<BoundMethod>();
  bound->self = object;
  bound->method = &method;
  return Value::FromObject(Kind::kCallable, std::move(bound));
}

}  // namespace mach::jinja
