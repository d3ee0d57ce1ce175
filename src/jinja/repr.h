// How Python writes values down: str(), repr(), json.dumps() and the two string formatters.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "jinja/value.h"

namespace mach::jinja {

std::string Str(const Value& value);
std::string Repr(const Value& value);
// repr() of a float: the shortest digits that read back as the same number.
std::string FloatRepr(double value);
std::string StringRepr(std::string_view text);

struct JsonStyle {
  bool ensure_ascii = false;
  bool sort_keys = false;
  std::optional<std::string> indent;
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};

// json.dumps(); fails on what JSON cannot hold.
std::string DumpJson(const Value& value, const JsonStyle& style);

// `format % arguments`
Value PercentFormat(const Value& format, const Value& arguments);
// format.format(...)
std::string BraceFormat(std::string_view format, const CallArgs& args);

}  // namespace mach::jinja
