#include "jinja/arguments.h"

#include <utility>

namespace mach::jinja {

void RequireNoArguments(std::string_view function, const CallArgs& args) {
  const BoundArgs bound(function, args, {});
}

BoundArgs::BoundArgs(std::string_view function, const CallArgs& args,
                     std::initializer_list<std::string_view> names, size_t required)
    : function_(function), values_(names.size()) {
  if (args.positional.size() > names.size()) {
    Fail(function_ + "() takes at most " + std::to_string(names.size()) + " arguments (" +
         std::to_string(args.positional.size()) + " given)");
  }
  for (size_t i = 0; i < args.positional.size(); ++i) {
    values_[i] = args.positional[i];
  }
  for (const auto& [name, value] : args.keyword) {
    size_t index = 0;
    while (index < names.size() && names.begin()[index] != name) {
      ++index;
    }
    if (index == names.size()) {
      Fail(function_ + "() got an unexpected keyword argument '" + name + "'");
    }
    if (values_[index]) {
      Fail(function_ + "() got multiple values for argument '" + name + "'");
    }
    values_[index] = value;
  }
  for (size_t i = 0; i < required; ++i) {
    if (!values_[i]) {
      Fail(function_ + "() missing required argument '" + std::string(names.begin()[i]) + "'");
    }
  }
}

bool BoundArgs::Flag(size_t index, bool fallback) const {
  return values_[index] ? Truthy(*values_[index]) : fallback;
}

int64_t BoundArgs::Integer(size_t index, int64_t fallback) const {
  if (!values_[index]) {
    return fallback;
  }
  if (!values_[index]->IsIntegral()) {
    Fail(function_ + "(): '" + TypeName(*values_[index]) +
         "' object cannot be interpreted as an integer");
  }
  return values_[index]->AsInt();
}

std::string BoundArgs::Text(size_t index, std::string_view fallback) const {
  if (!values_[index]) {
    return std::string(fallback);
  }
  if (!values_[index]->IsString()) {
    Fail(function_ + "(): argument must be str, not " + TypeName(*values_[index]));
  }
  return values_[index]->Text();
}

}  // namespace mach::jinja
