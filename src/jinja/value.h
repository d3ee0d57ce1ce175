// Values that a template computes with: Python's objects as far as chat templates can see them.
//
// A Value is a small handle; strings and containers behind it are shared and never change once
// built (the sandbox forbids it), except namespaces, loops and generators, which belong to one
// rendering and therefore to one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace mach::jinja {

class Interpreter;
class Value;

enum class Kind : uint8_t {
  kMissing,  // never seen by templates: a local that has not been assigned yet
  kUndefined,
  kNone,
  kBool,
  kInt,
  kBigInt,  // an integer from JSON beyond int64, as its digits: printed and compared only
  kFloat,
  kString,
  kList,
  kTuple,
  kDict,
  kView,  // dict.keys(), dict.values(), dict.items()
  kRange,
  kNamespace,
  kGenerator,  // what map, select and other lazy filters return: can be walked once
  kLoop,
  kCallable,
};

// Raises what Python would raise as an exception: mach::Error(kInvalidArgument).
[[noreturn]] void Fail(const std::string& message);
// mach::Error(kResourceLimit): the template runs away.
[[noreturn]] void FailLimit(const std::string& message);

struct Object {
  Object() = default;
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;
  virtual ~Object() = default;
};

// Arguments of a call as written: f(a, b, name=c).
struct CallArgs {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> keyword;
};

struct StringObject final : Object {
  std::string text;    // UTF-8
  int64_t length = 0;  // code points
  bool markup = false;
  bool is_ascii() const { return length == static_cast<int64_t>(text.size()); }
};

struct ListObject;
struct DictObject;
struct ViewObject;
struct RangeObject;
struct NamespaceObject;
struct GeneratorObject;
struct LoopObject;
struct CallableObject;
struct UndefinedObject;

class Value {
 public:
  Value() = default;  // None's cheaper sibling: missing

  static Value None() { return Value(Kind::kNone); }
  static Value Bool(bool value);
  static Value Int(int64_t value);
  static Value BigInt(std::string digits);
  static Value Float(double value);
  static Value String(std::string text, bool markup = false);
  static Value List(std::vector<Value> items);
  static Value Tuple(std::vector<Value> items);
  static Value Range(int64_t start, int64_t stop, int64_t step);
  // "'name' is undefined"
  static Value UndefinedName(std::string_view name);
  // Undefined whose use fails with `hint`.
  static Value UndefinedHint(std::string hint);
  // "'dict object' has no attribute 'name'"
  static Value UndefinedAttribute(const Value& object, std::string_view name);
  static Value UndefinedElement(const Value& object, const Value& key);
  static Value FromObject(Kind kind, std::shared_ptr<Object> object);

  Kind kind() const { return kind_; }
  bool Is(Kind kind) const { return kind_ == kind; }
  bool IsUndefined() const { return kind_ == Kind::kUndefined; }
  bool IsNone() const { return kind_ == Kind::kNone; }
  bool IsString() const { return kind_ == Kind::kString; }
  bool IsSequence() const { return kind_ == Kind::kList || kind_ == Kind::kTuple; }
  bool IsIntegral() const { return kind_ == Kind::kInt || kind_ == Kind::kBool; }
  bool IsNumber() const { return IsIntegral() || kind_ == Kind::kFloat; }

  bool AsBool() const { return scalar_.boolean; }
  // Of an integer or a bool.
  int64_t AsInt() const { return kind_ == Kind::kBool ? scalar_.boolean : scalar_.integer; }
  double AsDouble() const {
    return kind_ == Kind::kFloat ? scalar_.real : static_cast<double>(AsInt());
  }
  const std::string& Text() const { return String().text; }
  const StringObject& String() const { return Get<StringObject>(); }
  const std::vector<Value>& Items() const;  // of a list or tuple
  const DictObject& Dict() const;

  template <typename T>
  T& Get() const {
    return static_cast<T&>(*object_);
  }
  const std::shared_ptr<Object>& object() const { return object_; }

 private:
  explicit Value(Kind kind) : kind_(kind) {}

  Kind kind_ = Kind::kMissing;
  union {
    bool boolean;
    int64_t integer;
    double real;
  } scalar_ = {};
  std::shared_ptr<Object> object_;
};

struct UndefinedObject final : Object {
  enum class Reason : uint8_t { kName, kAttribute, kElement, kHint };
  Reason reason = Reason::kName;
  const char* object_type = "";
  std::string name;
  std::string Message() const;
};

// Lists and tuples.
struct ListObject final : Object {
  std::vector<Value> items;
  int depth = 1;  // nesting, so that no walk and no destructor recurses without bound
};

// Insertion-ordered dict. Keys compare as Python's do (1 == 1.0 == True).
struct DictObject final : Object {
  std::vector<std::pair<Value, Value>> entries;
  int depth = 1;

  const Value* Find(std::string_view key) const;
  const Value* Find(const Value& key) const;  // fails on unhashable keys
  void Set(const Value& key, const Value& value);
  void Set(std::string_view key, const Value& value);

 private:
  int64_t IndexOf(const Value& key, size_t hash) const;
  void Append(const Value& key, const Value& value, size_t hash);
  std::unordered_multimap<size_t, uint32_t> index_;  // filled once linear search gets slow
};

struct ViewObject final : Object {
  enum class Which : uint8_t { kKeys, kValues, kItems };
  Which which = Which::kKeys;
  Value dict;
};

struct RangeObject final : Object {
  int64_t start = 0;
  int64_t stop = 0;
  int64_t step = 1;
  int64_t size() const;
};

struct NamespaceObject final : Object {
  DictObject attributes;
};

struct GeneratorObject final : Object {
  const char* name = "generator";
  int depth = 1;
  std::function<std::optional<Value>()> next;
};

// Something that can be called, and whose attributes can be asked for.
struct CallableObject : Object {
  virtual Value Call(Interpreter& interpreter, CallArgs& args) = 0;
  virtual std::string Repr() const = 0;
  virtual std::optional<Value> Attribute(std::string_view) const { return std::nullopt; }
  virtual int depth() const { return 1; }
};

// Walks anything iterable; Undefined is empty. Fails on what is not iterable.
class Iterator {
 public:
  explicit Iterator(Value iterable);
  std::optional<Value> Next();

 private:
  Value source_;
  size_t position_ = 0;
};

// A new, empty dict to be filled before it is shared.
std::shared_ptr<DictObject> NewDict();
Value DictValue(std::shared_ptr<DictObject> dict);
Value GeneratorValue(const char* name, int depth, std::function<std::optional<Value>()> next);
// Nesting depth of a value: 0 for scalars.
int Depth(const Value& value);
// Depth + 1, or fails with a resource limit.
int DepthAbove(const Value& value);

// All items of an iterable.
std::vector<Value> ToVector(const Value& iterable);
bool IsIterable(const Value& value);

bool Truthy(const Value& value);
bool Equal(const Value& a, const Value& b);
// <0, 0, >0; fails with Python's TypeError when the two have no order. `op` names the operator.
// NaN compares as `unordered`.
struct Ordering {
  int sign = 0;
  bool unordered = false;
};
Ordering Compare(const Value& a, const Value& b, const char* op);
bool Identical(const Value& a, const Value& b);
// Python's `needle in haystack`.
bool Contains(const Value& haystack, const Value& needle);
// len(), or nothing where the type has none.
std::optional<int64_t> Length(const Value& value);
// hash(); fails on unhashable values.
size_t Hash(const Value& value);

// 'dict', 'str', 'NoneType'...
const char* TypeName(const Value& value);

}  // namespace mach::jinja
