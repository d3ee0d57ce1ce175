// Filters on lists, dicts and other iterables.
#include <algorithm>
#include <array>
#include <memory>
#include <unordered_map>

#include "jinja/arguments.h"
#include "jinja/filters.h"
#include "jinja/interpreter.h"
#include "jinja/operators.h"
#include "jinja/repr.h"
#include "jinja/text_ops.h"
#include "jinja/unicode.h"

namespace mach::jinja {

namespace {

Value LengthFilter(Interpreter&, const Value& input, CallArgs& args) {
  RequireNoArguments("length", args);
  const std::optional<int64_t> length =
      input.Is(Kind::kLoop) ? input.Get<LoopObject>().TotalLength() : Length(input);
  if (!length) {
    Fail(std::string("object of type '") + TypeName(input) + "' has no len()");
  }
  return Value::Int(*length);
}

Value FirstFilter(Interpreter&, const Value& input, CallArgs& args) {
  RequireNoArguments("first", args);
  Iterator iterator(input);
  std::optional<Value> item = iterator.Next();
  return item ? std::move(*item) : Value::UndefinedHint("No first item, sequence was empty.");
}

Value LastFilter(Interpreter& interpreter, const Value& input, CallArgs& args) {
  RequireNoArguments("last", args);
  if (input.Is(Kind::kGenerator) || !IsIterable(input)) {
    Fail(std::string("'") + TypeName(input) + "' object is not reversible");
  }
  if (input.IsString() && !input.Text().empty()) {
    return interpreter.Item(input, Value::Int(-1));
  }
  const std::vector<Value> items = ToVector(input);
  return items.empty() ? Value::UndefinedHint("No last item, sequence was empty.") : items.back();
}

Value ListFilter(Interpreter&, const Value& input, CallArgs& args) {
  RequireNoArguments("list", args);
  return Value::List(ToVector(input));
}

// An iterator over items that are known already.
Value Walk(const char* name, std::vector<Value> items) {
  int depth = 1;
  for (const Value& item : items) {
    depth = std::max(depth, DepthAbove(item));
  }
  auto shared = std::make_shared<std::vector<Value>>(std::move(items));
  return GeneratorValue(name, depth, [shared, next = size_t{0}]() mutable -> std::optional<Value> {
    if (next >= shared->size()) {
      return std::nullopt;
    }
    return (*shared)[next++];
  });
}

Value ReverseFilter(Interpreter&, const Value& input, CallArgs& args) {
  RequireNoArguments("reverse", args);
  if (input.IsString()) {
    return Slice(input, Value::None(), Value::None(), Value::Int(-1));
  }
  if (!IsIterable(input)) {
    Fail("argument must be iterable");
  }
  std::vector<Value> items = ToVector(input);
  std::reverse(items.begin(), items.end());
  switch (input.kind()) {
    case Kind::kList:
      return Walk("list_reverseiterator", std::move(items));
    case Kind::kDict:
    case Kind::kView:
      return Walk("dict_reversekeyiterator", std::move(items));
    case Kind::kTuple:
      return Walk("reversed", std::move(items));
    case Kind::kRange:
      return Walk("range_iterator", std::move(items));
    default:
      return Value::List(std::move(items));
  }
}

Value ItemsFilter(Interpreter&, const Value& input, CallArgs& args) {
  RequireNoArguments("items", args);
  if (input.IsUndefined()) {
    return Walk("generator", {});
  }
  if (!input.Is(Kind::kDict)) {
    // Raised when the generator is first asked for an item, as Python does.
    return GeneratorValue("generator", 1, []() -> std::optional<Value> {
      Fail("Can only get item pairs from a mapping.");
    });
  }
  std::vector<Value> items;
  for (const auto& [key, value] : input.Dict().entries) {
    items.push_back(Value::Tuple({key, value}));
  }
  return Walk("generator", std::move(items));
}

// Attribute values to order by, in the manner of sort(attribute="a,b.c").
std::vector<Value> SortKeys(Interpreter& interpreter, const Value& item, const Value& attribute,
                            bool case_sensitive) {
  std::vector<Value> paths;
  if (attribute.IsString()) {
    for (std::string& path : Split(attribute.Text(), ",", -1, false)) {
      paths.push_back(Value::String(std::move(path)));
    }
  } else {
    paths.push_back(attribute);
  }
  std::vector<Value> keys;
  for (const Value& path : paths) {
    Value key = LookupPath(interpreter, item, path);
    keys.push_back(case_sensitive ? key : IgnoreCase(key));
  }
  return keys;
}

// A stable sort by keys; the comparison may throw, so std::stable_sort works on indices.
std::vector<Value> SortByKeys(Interpreter& interpreter, std::vector<Value> items,
                              const std::vector<Value>& keys, bool reverse) {
  std::vector<size_t> order(items.size());
  for (size_t i = 0; i < order.size(); ++i) {
    order[i] = i;
  }
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    interpreter.Charge(1);
    const Ordering ordering =
        reverse ? Compare(keys[b], keys[a], "<") : Compare(keys[a], keys[b], "<");
    return !ordering.unordered && ordering.sign < 0;
  });
  std::vector<Value> sorted;
  sorted.reserve(items.size());
  for (const size_t index : order) {
    sorted.push_back(std::move(items[index]));
  }
  return sorted;
}

Value SortFilter(Interpreter& interpreter, const Value& input, CallArgs& args) {
  const BoundArgs bound("sort", args, {"reverse", "case_sensitive", "attribute"});
  std::vector<Value> items = ToVector(input);
  std::vector<Value> keys;
  keys.reserve(items.size());
  for (const Value& item : items) {
    keys.push_back(
        Value::List(SortKeys(interpreter, item, bound.Or(2, Value::None()), bound.Flag(1))));
  }
  return Value::List(SortByKeys(interpreter, std::move(items), keys, bound.Flag(0)));
}

Value DictSortFilter(Interpreter& interpreter, const Value& input, CallArgs& args) {
  const BoundArgs bound("dictsort", args, {"case_sensitive", "by", "reverse"});
  const std::string by = bound.Text(1, "key");
  if (by != "key" && by != "value") {
    Fail("You can only sort by either \"key\" or \"value\"");
  }
  if (!input.Is(Kind::kDict)) {
    if (input.IsUndefined()) {
      Fail(input.Get<UndefinedObject>().Message());
    }
    Fail(std::string("'") + TypeName(input) + "' object has no attribute 'items'");
  }
  std::vector<Value> items;
  std::vector<Value> keys;
  for (const auto& [key, value] : input.Dict().entries) {
    items.push_back(Value::Tuple({key, value}));
    const Value& sort_by = by == "key" ? key : value;
    keys.push_back(bound.Flag(0) ? sort_by : IgnoreCase(sort_by));
  }
  return Value::List(SortByKeys(interpreter, std::move(items), keys, bound.Flag(2)));
}

Value UniqueFilter(Interpreter& interpreter, const Value& input, CallArgs& args) {
  const BoundArgs bound("unique", args, {"case_sensitive", "attribute"});
  struct State {
    explicit State(Value items) : iterator(std::move(items)) {}
    Iterator iterator;
    DictObject seen;
  };
  auto state = std::make_shared<State>(input);
  return GeneratorValue("generator", DepthAbove(input),
                        [&interpreter, state, case_sensitive = bound.Flag(0),
                         attribute = bound.Or(1, Value::None())]() -> std::optional<Value> {
                          while (std::optional<Value> item = state->iterator.Next()) {
                            interpreter.Charge(1);
                            Value key = LookupPath(interpreter, *item, attribute);
                            if (!case_sensitive) {
                              key = IgnoreCase(key);
                            }
                            if (state->seen.Find(key) == nullptr) {
                              state->seen.Set(key, Value::None());
                              return item;
                            }
                          }
                          return std::nullopt;
                        });
}

template <bool kMax>
Value ExtremeFilter(Interpreter& interpreter, const Value& input, CallArgs& args) {
  const BoundArgs bound(kMax ? "max" : "min", args, {"case_sensitive", "attribute"});
  Iterator iterator(input);
  std::optional<Value> best;
  Value best_key;
  while (std::optional<Value> item = iterator.Next()) {
    interpreter.Charge(1);
    Value key = LookupPath(interpreter, *item, bound.Or(1, Value::None()));
    if (!bound.Flag(0)) {
      key = IgnoreCase(key);
    }
    if (best) {
      const Ordering ordering = Compare(key, best_key, kMax ? ">" : "<");
      if (ordering.unordered || (kMax ? ordering.sign <= 0 : ordering.sign >= 0)) {
        continue;
      }
    }
    best = std::move(item);
    best_key = std::move(key);
  }
  return best ? std::move(*best) : Value::UndefinedHint("No aggregated item, sequence was empty.");
}

Value SumFilter(Interpreter& interpreter, const Value& input, CallArgs& args) {
  const BoundArgs bound("sum", args, {"attribute", "start"});
  Value total = bound.Or(1, Value::Int(0));
  if (total.IsString()) {
    Fail("sum() can't sum strings [use ''.join(seq) instead]");
  }
  const bool attribute = bound.Has(0) && !bound[0].IsNone();
  Iterator iterator(input);
  while (const std::optional<Value> item = iterator.Next()) {
    interpreter.Charge(1);
    total =
        Arithmetic(Op::kAdd, total, attribute ? LookupPath(interpreter, *item, bound[0]) : *item);
    interpreter.ChargeFor(total);
  }
  return total;
}

constexpr auto kFilters = std::to_array<FilterEntry>({
    {"count", LengthFilter},
    {"dictsort", DictSortFilter},
    {"first", FirstFilter},
    {"items", ItemsFilter},
    {"last", LastFilter},
    {"length", LengthFilter},
    {"list", ListFilter},
    {"max", ExtremeFilter<true>},
    {"min", ExtremeFilter<false>},
    {"reverse", ReverseFilter},
    {"sort", SortFilter},
    {"sum", SumFilter},
    {"unique", UniqueFilter},
});

}  // namespace

const FilterEntry* FindSequenceFilter(std::string_view name) {
  const auto* it = std::find_if(kFilters.begin(), kFilters.end(),
                                [name](const FilterEntry& entry) { return entry.name == name; });
  return it == kFilters.end() ? nullptr : &*it;
}

}  // namespace mach::jinja
