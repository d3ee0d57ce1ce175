#include "jinja/value.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "jinja/repr.h"
#include "jinja/unicode.h"

namespace mach::jinja {

namespace {

// Deeper values could not be walked or freed without overflowing the stack.
constexpr int kMaxValueDepth = 300;
constexpr size_t kIndexedDictSize = 16;

int CheckDepth(int depth) {
  if (depth > kMaxValueDepth) {
    FailLimit("chat template: a value is nested more than " + std::to_string(kMaxValueDepth) +
              " levels deep");
  }
  return depth;
}

size_t HashText(std::string_view text) {
  return std::hash<std::string_view>()(text);
}

}  // namespace

void Fail(const std::string& message) {
  throw Error(ErrorCode::kInvalidArgument, message);
}

void FailLimit(const std::string& message) {
  throw Error(ErrorCode::kResourceLimit, message);
}

Value Value::Bool(bool value) {
  Value result(Kind::kBool);
  result.scalar_.boolean = value;
  return result;
}

Value Value::Int(int64_t value) {
  Value result(Kind::kInt);
  result.scalar_.integer = value;
  return result;
}

Value Value::Float(double value) {
  Value result(Kind::kFloat);
  result.scalar_.real = value;
  return result;
}

Value Value::BigInt(std::string digits) {
  Value result = String(std::move(digits));
  result.kind_ = Kind::kBigInt;
  return result;
}

Value Value::String(std::string text, bool markup) {
  auto object = std::make_shared<StringObject>();
  object->length = CountCodePoints(text);
  object->text = std::move(text);
  object->markup = markup;
  return FromObject(Kind::kString, std::move(object));
}

Value Value::List(std::vector<Value> items) {
  auto object = std::make_shared<ListObject>();
  for (const Value& item : items) {
    object->depth = std::max(object->depth, DepthAbove(item));
  }
  object->items = std::move(items);
  return FromObject(Kind::kList, std::move(object));
}

Value Value::Tuple(std::vector<Value> items) {
  Value result = List(std::move(items));
  result.kind_ = Kind::kTuple;
  return result;
}

Value Value::Range(int64_t start, int64_t stop, int64_t step) {
  auto object = std::make_shared<RangeObject>();
  object->start = start;
  object->stop = stop;
  object->step = step;
  return FromObject(Kind::kRange, std::move(object));
}

Value Value::UndefinedName(std::string_view name) {
  auto object = std::make_shared<UndefinedObject>();
  object->name = name;
  return FromObject(Kind::kUndefined, std::move(object));
}

Value Value::UndefinedHint(std::string hint) {
  auto object = std::make_shared<UndefinedObject>();
  object->reason = UndefinedObject::Reason::kHint;
  object->name = std::move(hint);
  return FromObject(Kind::kUndefined, std::move(object));
}

Value Value::UndefinedAttribute(const Value& object, std::string_view name) {
  auto undefined = std::make_shared<UndefinedObject>();
  undefined->reason = UndefinedObject::Reason::kAttribute;
  undefined->object_type = TypeName(object);
  undefined->name = name;
  return FromObject(Kind::kUndefined, std::move(undefined));
}

Value Value::UndefinedElement(const Value& object, const Value& key) {
  if (key.IsString()) {
    return UndefinedAttribute(object, key.Text());
  }
  auto undefined = std::make_shared<UndefinedObject>();
  undefined->reason = UndefinedObject::Reason::kElement;
  undefined->object_type = TypeName(object);
  undefined->name = key.IsIntegral() ? std::to_string(key.AsInt()) : TypeName(key);
  return FromObject(Kind::kUndefined, std::move(undefined));
}

Value Value::FromObject(Kind kind, std::shared_ptr<Object> object) {
  Value result(kind);
  result.object_ = std::move(object);
  return result;
}

const std::vector<Value>& Value::Items() const {
  return Get<ListObject>().items;
}
const DictObject& Value::Dict() const {
  return Get<DictObject>();
}

std::string UndefinedObject::Message() const {
  const auto type = [this] {
    const std::string text = object_type;
    return text == "NoneType" ? std::string("None") : text + " object";
  };
  switch (reason) {
    case Reason::kName:
      return "'" + name + "' is undefined";
    case Reason::kAttribute:
      return "'" + type() + "' has no attribute '" + name + "'";
    case Reason::kElement:
      return type() + " has no element " + name;
    case Reason::kHint:
      break;
  }
  return name;
}

std::shared_ptr<DictObject> NewDict() {
  return std::make_shared<DictObject>();
}

Value DictValue(std::shared_ptr<DictObject> dict) {
  return Value::FromObject(Kind::kDict, std::move(dict));
}

Value GeneratorValue(const char* name, int depth, std::function<std::optional<Value>()> next) {
  auto object = std::make_shared<GeneratorObject>();
  object->name = name;
  object->depth = CheckDepth(depth);
  object->next = std::move(next);
  return Value::FromObject(Kind::kGenerator, std::move(object));
}

int Depth(const Value& value) {
  switch (value.kind()) {
    case Kind::kList:
    case Kind::kTuple:
      return value.Get<ListObject>().depth;
    case Kind::kDict:
      return value.Get<DictObject>().depth;
    case Kind::kView:
      return Depth(value.Get<ViewObject>().dict) + 1;
    case Kind::kGenerator:
      return value.Get<GeneratorObject>().depth;
    case Kind::kLoop:
    case Kind::kCallable:
      return value.Get<CallableObject>().depth();
    default:
      return 0;
  }
}

int DepthAbove(const Value& value) {
  return CheckDepth(Depth(value) + 1);
}

size_t Hash(const Value& value) {
  switch (value.kind()) {
    case Kind::kBool:
    case Kind::kInt:
      return std::hash<int64_t>()(value.AsInt());
    case Kind::kFloat: {
      const double real = value.AsDouble();
      if (real == std::floor(real) && std::abs(real) < 9e18) {
        return std::hash<int64_t>()(static_cast<int64_t>(real));
      }
      return std::hash<double>()(real);
    }
    case Kind::kBigInt:
    case Kind::kString:
      return HashText(value.Text());
    case Kind::kTuple: {
      size_t hash = 0x345678;
      for (const Value& item : value.Items()) {
        hash = std::rotl(hash, 7) * 1000003U ^ Hash(item);
      }
      return hash;
    }
    case Kind::kList:
    case Kind::kDict:
      Fail(std::string("unhashable type: '") + TypeName(value) + "'");
    case Kind::kNone:
    case Kind::kUndefined:
    case Kind::kMissing:
      return static_cast<size_t>(value.kind());
    default:
      return std::hash<const void*>()(value.object().get());
  }
}

int64_t DictObject::IndexOf(const Value& key, size_t hash) const {
  if (index_.empty()) {
    for (size_t i = 0; i < entries.size(); ++i) {
      if (Equal(entries[i].first, key)) {
        return static_cast<int64_t>(i);
      }
    }
    return -1;
  }
  const auto [begin, end] = index_.equal_range(hash);
  for (auto it = begin; it != end; ++it) {
    if (Equal(entries[it->second].first, key)) {
      return it->second;
    }
  }
  return -1;
}

const Value* DictObject::Find(std::string_view key) const {
  if (!index_.empty()) {
    const auto [begin, end] = index_.equal_range(HashText(key));
    for (auto it = begin; it != end; ++it) {
      const auto& entry = entries[it->second];
      if (entry.first.IsString() && entry.first.Text() == key) {
        return &entry.second;
      }
    }
    return nullptr;
  }
  for (const auto& [name, value] : entries) {
    if (name.IsString() && name.Text() == key) {
      return &value;
    }
  }
  return nullptr;
}

const Value* DictObject::Find(const Value& key) const {
  const int64_t index = IndexOf(key, Hash(key));
  return index < 0 ? nullptr : &entries[index].second;
}

void DictObject::Append(const Value& key, const Value& value, size_t hash) {
  entries.emplace_back(key, value);
  if (!index_.empty()) {
    index_.emplace(hash, static_cast<uint32_t>(entries.size() - 1));
  } else if (entries.size() > kIndexedDictSize) {
    for (size_t i = 0; i < entries.size(); ++i) {
      index_.emplace(Hash(entries[i].first), static_cast<uint32_t>(i));
    }
  }
}

void DictObject::Set(const Value& key, const Value& value) {
  depth = std::max({depth, DepthAbove(value), DepthAbove(key)});
  const size_t hash = Hash(key);
  const int64_t index = IndexOf(key, hash);
  if (index >= 0) {
    entries[index].second = value;
  } else {
    Append(key, value, hash);
  }
}

void DictObject::Set(std::string_view key, const Value& value) {
  Set(Value::String(std::string(key)), value);
}

int64_t RangeObject::size() const {
  if (step > 0) {
    return start < stop ? (stop - start - 1) / step + 1 : 0;
  }
  return start > stop ? (start - stop - 1) / -step + 1 : 0;
}

Iterator::Iterator(Value iterable) : source_(std::move(iterable)) {
  if (!IsIterable(source_)) {
    Fail(std::string("'") + TypeName(source_) + "' object is not iterable");
  }
}

std::optional<Value> Iterator::Next() {
  switch (source_.kind()) {
    case Kind::kString: {
      const std::string& text = source_.Text();
      if (position_ >= text.size()) {
        return std::nullopt;
      }
      const int size = DecodeAt(text, position_).size_bytes;
      position_ += size;
      return Value::String(text.substr(position_ - size, size));
    }
    case Kind::kList:
    case Kind::kTuple:
      if (position_ >= source_.Items().size()) {
        return std::nullopt;
      }
      return source_.Items()[position_++];
    case Kind::kDict:
      if (position_ >= source_.Dict().entries.size()) {
        return std::nullopt;
      }
      return source_.Dict().entries[position_++].first;
    case Kind::kView: {
      const ViewObject& view = source_.Get<ViewObject>();
      const auto& entries = view.dict.Dict().entries;
      if (position_ >= entries.size()) {
        return std::nullopt;
      }
      const auto& [key, value] = entries[position_++];
      if (view.which == ViewObject::Which::kKeys) {
        return key;
      }
      return view.which == ViewObject::Which::kValues ? value : Value::Tuple({key, value});
    }
    case Kind::kRange: {
      const RangeObject& range = source_.Get<RangeObject>();
      if (static_cast<int64_t>(position_) >= range.size()) {
        return std::nullopt;
      }
      return Value::Int(range.start + range.step * static_cast<int64_t>(position_++));
    }
    case Kind::kGenerator:
      return source_.Get<GeneratorObject>().next();
    default:
      return std::nullopt;
  }
}

std::vector<Value> ToVector(const Value& iterable) {
  if (iterable.IsSequence()) {
    return iterable.Items();
  }
  std::vector<Value> items;
  Iterator iterator(iterable);
  while (std::optional<Value> item = iterator.Next()) {
    items.push_back(std::move(*item));
  }
  return items;
}

bool IsIterable(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
    case Kind::kString:
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kDict:
    case Kind::kView:
    case Kind::kRange:
    case Kind::kGenerator:
      return true;
    default:
      return false;
  }
}

bool Truthy(const Value& value) {
  switch (value.kind()) {
    case Kind::kMissing:
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBool:
      return value.AsBool();
    case Kind::kInt:
      return value.AsInt() != 0;
    case Kind::kFloat:
      return value.AsDouble() != 0;
    case Kind::kString:
      return !value.Text().empty();
    case Kind::kList:
    case Kind::kTuple:
      return !value.Items().empty();
    case Kind::kDict:
      return !value.Dict().entries.empty();
    case Kind::kView:
      return !value.Get<ViewObject>().dict.Dict().entries.empty();
    case Kind::kRange:
      return value.Get<RangeObject>().size() > 0;
    default:
      return true;
  }
}

bool Equal(const Value& a, const Value& b) {
  if (a.IsNumber() && b.IsNumber()) {
    if (a.IsIntegral() && b.IsIntegral()) {
      return a.AsInt() == b.AsInt();
    }
    return !Compare(a, b, "==").unordered && Compare(a, b, "==").sign == 0;
  }
  if (a.kind() != b.kind()) {
    return false;
  }
  switch (a.kind()) {
    case Kind::kMissing:
    case Kind::kUndefined:
    case Kind::kNone:
      return true;
    case Kind::kBigInt:
    case Kind::kString:
      return a.Text() == b.Text();
    case Kind::kList:
    case Kind::kTuple:
      return std::equal(a.Items().begin(), a.Items().end(), b.Items().begin(), b.Items().end(),
                        Equal);
    case Kind::kDict: {
      const DictObject& left = a.Dict();
      if (left.entries.size() != b.Dict().entries.size()) {
        return false;
      }
      for (const auto& [key, value] : left.entries) {
        const Value* other = b.Dict().Find(key);
        if (other == nullptr || !Equal(value, *other)) {
          return false;
        }
      }
      return true;
    }
    case Kind::kRange: {
      const RangeObject& left = a.Get<RangeObject>();
      const RangeObject& right = b.Get<RangeObject>();
      const int64_t size = left.size();
      return size == right.size() &&
             (size == 0 || (left.start == right.start && (size == 1 || left.step == right.step)));
    }
    default:
      return a.object() == b.object();
  }
}

namespace {

Ordering CompareDoubles(double a, double b) {
  if (std::isnan(a) || std::isnan(b)) {
    return {0, true};
  }
  return {a < b ? -1 : a > b ? 1 : 0, false};
}

// Exact, where converting the integer would round.
Ordering CompareIntDouble(int64_t a, double b) {
  if (std::isnan(b)) {
    return {0, true};
  }
  if (b >= 9223372036854775808.0) {
    return {-1, false};
  }
  if (b < -9223372036854775808.0) {
    return {1, false};
  }
  const double floor = std::floor(b);
  const auto whole = static_cast<int64_t>(floor);
  if (a != whole) {
    return {a < whole ? -1 : 1, false};
  }
  return {b > floor ? -1 : 0, false};
}

}  // namespace

Ordering Compare(const Value& a, const Value& b, const char* op) {
  if (a.IsUndefined()) {
    Fail(a.Get<UndefinedObject>().Message());
  }
  if (b.IsUndefined()) {
    Fail(b.Get<UndefinedObject>().Message());
  }
  if (a.IsNumber() && b.IsNumber()) {
    if (a.IsIntegral() && b.IsIntegral()) {
      return {a.AsInt() < b.AsInt() ? -1 : a.AsInt() > b.AsInt() ? 1 : 0, false};
    }
    if (a.IsIntegral()) {
      return CompareIntDouble(a.AsInt(), b.AsDouble());
    }
    if (b.IsIntegral()) {
      const Ordering flipped = CompareIntDouble(b.AsInt(), a.AsDouble());
      return {-flipped.sign, flipped.unordered};
    }
    return CompareDoubles(a.AsDouble(), b.AsDouble());
  }
  if (a.IsString() && b.IsString()) {
    // UTF-8 bytes sort as code points do.
    const int sign = a.Text().compare(b.Text());
    return {sign < 0 ? -1 : sign > 0 ? 1 : 0, false};
  }
  if (a.IsSequence() && a.kind() == b.kind()) {
    const auto& left = a.Items();
    const auto& right = b.Items();
    for (size_t i = 0; i < std::min(left.size(), right.size()); ++i) {
      if (!Identical(left[i], right[i]) && !Equal(left[i], right[i])) {
        return Compare(left[i], right[i], op);
      }
    }
    return {left.size() < right.size() ? -1 : left.size() > right.size() ? 1 : 0, false};
  }
  Fail(std::string("'") + op + "' not supported between instances of '" + TypeName(a) + "' and '" +
       TypeName(b) + "'");
}

bool Identical(const Value& a, const Value& b) {
  if (a.kind() != b.kind()) {
    return false;
  }
  switch (a.kind()) {
    case Kind::kNone:
    case Kind::kMissing:
      return true;
    case Kind::kBool:
      return a.AsBool() == b.AsBool();
    case Kind::kInt:
      // CPython shares small integers; others are the same object only by accident.
      return a.AsInt() == b.AsInt();
    case Kind::kFloat:
      return false;
    default:
      return a.object() == b.object();
  }
}

bool Contains(const Value& haystack, const Value& needle) {
  switch (haystack.kind()) {
    case Kind::kString:
      if (!needle.IsString()) {
        Fail(std::string("'in <string>' requires string as left operand, not ") + TypeName(needle));
      }
      return haystack.Text().find(needle.Text()) != std::string::npos;
    case Kind::kDict:
      return haystack.Dict().Find(needle) != nullptr;
    default: {
      if (!IsIterable(haystack)) {
        Fail(std::string("argument of type '") + TypeName(haystack) + "' is not iterable");
      }
      Iterator iterator(haystack);
      while (std::optional<Value> item = iterator.Next()) {
        if (Identical(*item, needle) || Equal(*item, needle)) {
          return true;
        }
      }
      return false;
    }
  }
}

std::optional<int64_t> Length(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return 0;
    case Kind::kString:
      return value.String().length;
    case Kind::kList:
    case Kind::kTuple:
      return static_cast<int64_t>(value.Items().size());
    case Kind::kDict:
      return static_cast<int64_t>(value.Dict().entries.size());
    case Kind::kView:
      return Length(value.Get<ViewObject>().dict);
    case Kind::kRange:
      return value.Get<RangeObject>().size();
    default:
      return std::nullopt;
  }
}

const char* TypeName(const Value& value) {
  switch (value.kind()) {
    case Kind::kMissing:
    case Kind::kUndefined:
      return "Undefined";
    case Kind::kNone:
      return "NoneType";
    case Kind::kBool:
      return "bool";
    case Kind::kInt:
    case Kind::kBigInt:
      return "int";
    case Kind::kFloat:
      return "float";
    case Kind::kString:
      return value.String().markup ? "Markup" : "str";
    case Kind::kList:
      return "list";
    case Kind::kTuple:
      return "tuple";
    case Kind::kDict:
      return "dict";
    case Kind::kView:
      switch (value.Get<ViewObject>().which) {
        case ViewObject::Which::kKeys:
          return "dict_keys";
        case ViewObject::Which::kValues:
          return "dict_values";
        case ViewObject::Which::kItems:
          break;
      }
      return "dict_items";
    case Kind::kRange:
      return "range";
    case Kind::kNamespace:
      return "Namespace";
    case Kind::kGenerator:
      return value.Get<GeneratorObject>().name;
    case Kind::kLoop:
      return "LoopContext";
    case Kind::kCallable:
      return "function";
  }
  return "object";
}

}  // namespace mach::jinja
