// map, select, reject and their attribute siblings, and the lookup of filters by name.
#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <utility>

#include "jinja/filters.h"
#include "jinja/interpreter.h"
#include "jinja/tests.h"
#include "jinja/text_ops.h"
#include "jinja/unicode.h"

namespace mach::jinja {

Value IgnoreCase(const Value& value) {
  return value.IsString() ? Value::String(Lower(value.Text())) : value;
}

Value LookupPath(Interpreter& interpreter, const Value& object, const Value& path,
                 const Value* fallback) {
  if (path.IsNone()) {
    return object;
  }
  const auto step = [&](const Value& from, const Value& key) {
    Value value = interpreter.Item(from, key);
    return value.IsUndefined() && fallback != nullptr ? *fallback : value;
  };
  if (!path.IsString()) {
    return step(object, path);
  }
  Value value = object;
  for (std::string& part : Split(path.Text(), ".", -1, false)) {
    const bool number =
        !part.empty() && part.size() < 18 &&
        std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
    value = step(value, number ? Value::Int(std::stoll(part)) : Value::String(std::move(part)));
  }
  return value;
}

namespace {

// What a lazy filter keeps until it is asked for items. Its source is not even looked at before.
struct Pipeline {
  explicit Pipeline(Value input) : source(std::move(input)) {}

  Value source;
  std::optional<Iterator> iterator;
  CallArgs args;
  Value attribute = Value::None();
  std::optional<Value> fallback;

  std::optional<Value> Next() {
    if (!iterator) {
      if (!Truthy(source)) {
        return std::nullopt;
      }
      iterator.emplace(source);
    }
    return iterator->Next();
  }
};

int PipelineDepth(const Pipeline& pipeline) {
  int depth = DepthAbove(pipeline.source);
  for (const Value& argument : pipeline.args.positional) {
    depth = std::max(depth, DepthAbove(argument));
  }
  for (const auto& [name, argument] : pipeline.args.keyword) {
    depth = std::max(depth, DepthAbove(argument));
  }
  return depth;
}

Value MapAttribute(Interpreter& interpreter, const Value& input, CallArgs& args) {
  auto pipeline = std::make_shared<Pipeline>(input);
  std::string unexpected;
  for (auto& [name, value] : args.keyword) {
    if (name == "attribute") {
      pipeline->attribute = value;
    } else if (name == "default") {
      if (!value.IsNone()) {
        pipeline->fallback = value;
      }
    } else {
      unexpected = name;
    }
  }
  return GeneratorValue("generator", PipelineDepth(*pipeline),
                        [&interpreter, pipeline, unexpected]() -> std::optional<Value> {
                          interpreter.Charge(1);
                          const std::optional<Value> item = pipeline->Next();
                          if (!item) {
                            return std::nullopt;
                          }
                          if (!unexpected.empty()) {
                            Fail("Unexpected keyword argument '" + unexpected + "'");
                          }
                          return LookupPath(interpreter, *item, pipeline->attribute,
                                            pipeline->fallback ? &*pipeline->fallback : nullptr);
                        });
}

// A name given as a value: map("upper"), select("odd").
std::string NameOf(const Value& value, const char* what) {
  if (!value.IsString()) {
    Fail(std::string("No ") + what + " named " + TypeName(value) + ".");
  }
  return value.Text();
}

Value MapFilter(Interpreter& interpreter, const Value& input, CallArgs& args) {
  const bool by_attribute =
      args.positional.empty() &&
      std::any_of(args.keyword.begin(), args.keyword.end(),
                  [](const auto& argument) { return argument.first == "attribute"; });
  if (by_attribute) {
    return MapAttribute(interpreter, input, args);
  }
  auto pipeline = std::make_shared<Pipeline>(input);
  pipeline->args = args;
  return GeneratorValue("generator", PipelineDepth(*pipeline),
                        [&interpreter, pipeline]() -> std::optional<Value> {
                          interpreter.Charge(1);
                          const std::optional<Value> item = pipeline->Next();
                          if (!item) {
                            return std::nullopt;
                          }
                          CallArgs rest = pipeline->args;
                          if (rest.positional.empty()) {
                            Fail("map requires a filter argument");
                          }
                          const std::string name = NameOf(rest.positional[0], "filter");
                          const FilterEntry* filter = FindFilter(name);
                          if (filter == nullptr) {
                            Fail("No filter named '" + name + "'.");
                          }
                          rest.positional.erase(rest.positional.begin());
                          Value result = filter->function(interpreter, *item, rest);
                          interpreter.ChargeFor(result);
                          return result;
                        });
}

template <bool kWanted, bool kAttribute>
Value SelectFilter(Interpreter& interpreter, const Value& input, CallArgs& args) {
  auto pipeline = std::make_shared<Pipeline>(input);
  pipeline->args = args;
  return GeneratorValue("generator", PipelineDepth(*pipeline),
                        [&interpreter, pipeline]() -> std::optional<Value> {
                          while (std::optional<Value> item = pipeline->Next()) {
                            interpreter.Charge(1);
                            CallArgs rest = pipeline->args;
                            Value subject = *item;
                            if (kAttribute) {
                              if (rest.positional.empty()) {
                                Fail("Missing parameter for attribute name");
                              }
                              subject = LookupPath(interpreter, *item, rest.positional[0]);
                              rest.positional.erase(rest.positional.begin());
                            }
                            bool passes = false;
                            if (rest.positional.empty()) {
                              passes = Truthy(subject);
                            } else {
                              const std::string name = NameOf(rest.positional[0], "test");
                              const TestEntry* test = FindTest(name);
                              if (test == nullptr) {
                                Fail("No test named '" + name + "'.");
                              }
                              rest.positional.erase(rest.positional.begin());
                              passes = test->function(subject, rest);
                            }
                            if (passes == kWanted) {
                              return item;
                            }
                          }
                          return std::nullopt;
                        });
}

constexpr auto kFilters = std::to_array<FilterEntry>({
    {"map", MapFilter},
    {"reject", SelectFilter<false, false>},
    {"rejectattr", SelectFilter<false, true>},
    {"select", SelectFilter<true, false>},
    {"selectattr", SelectFilter<true, true>},
});

}  // namespace

const FilterEntry* FindSelectionFilter(std::string_view name) {
  const auto* it = std::find_if(kFilters.begin(), kFilters.end(),
                                [name](const FilterEntry& entry) { return entry.name == name; });
  return it == kFilters.end() ? nullptr : &*it;
}

const FilterEntry* FindFilter(std::string_view name) {
  for (const auto& find :
       {FindTextFilter, FindSequenceFilter, FindNumberFilter, FindSelectionFilter}) {
    if (const FilterEntry* entry = find(name)) {
      return entry;
    }
  }
  return nullptr;
}

}  // namespace mach::jinja
