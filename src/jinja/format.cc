// The part of Python's two string formatters that chat templates use: "%s" % value and
// "{}".format(value), without widths, precisions and other specifiers.
#include <string>
#include <vector>

#include "jinja/interpreter.h"
#include "jinja/repr.h"

namespace mach::jinja {

namespace {

[[noreturn]] void FailSpecifier(std::string_view format) {
  Fail("format '" + std::string(format) +
       "' has a specifier beyond %s, %d, %r, {} and {name}, which chat templates here cannot use");
}

std::string Percent(char type, const Value& value, std::string_view format) {
  if (type == 's') {
    return Str(value);
  }
  if (type == 'r') {
    return Repr(value);
  }
  if (type != 'd' && type != 'i') {
    FailSpecifier(format);
  }
  if (!value.IsIntegral()) {
    Fail(std::string("%d format: a real number is required, not ") + TypeName(value));
  }
  return std::to_string(value.AsInt());
}

bool IsIndex(std::string_view text) {
  return !text.empty() && text.size() < 10 &&
         text.find_first_not_of("0123456789") == std::string_view::npos;
}

const Value& Field(std::string_view name, const CallArgs& args, size_t* next) {
  if (name.empty() || IsIndex(name)) {
    const size_t index = name.empty() ? (*next)++ : std::stoul(std::string(name));
    if (index >= args.positional.size()) {
      Fail("Replacement index " + std::to_string(index) +
           " out of range for positional args tuple");
    }
    return args.positional[index];
  }
  for (const auto& [key, value] : args.keyword) {
    if (key == name) {
      return value;
    }
  }
  Fail("KeyError: '" + std::string(name) + "'");
}

}  // namespace

Value PercentFormat(const Value& format, const Value& arguments) {
  const std::vector<Value> values =
      arguments.Is(Kind::kTuple) ? arguments.Items() : std::vector<Value>{arguments};
  const std::string& text = format.Text();
  std::string out;
  size_t used = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    if (++i >= text.size()) {
      Fail("incomplete format");
    }
    if (text[i] == '%') {
      out += '%';
      continue;
    }
    if (used >= values.size()) {
      Fail("not enough arguments for format string");
    }
    out += Percent(text[i], values[used++], text);
  }
  if (used < values.size() && !(arguments.Is(Kind::kDict) || arguments.IsUndefined())) {
    Fail("not all arguments converted during string formatting");
  }
  return Value::String(std::move(out), format.String().markup);
}

std::string BraceFormat(std::string_view format, const CallArgs& args) {
  std::string out;
  size_t next = 0;
  for (size_t i = 0; i < format.size(); ++i) {
    const char c = format[i];
    if (c != '{' && c != '}') {
      out += c;
    } else if (i + 1 < format.size() && format[i + 1] == c) {
      out += c;
      ++i;
    } else if (c == '}') {
      Fail("Single '}' encountered in format string");
    } else {
      const size_t end = format.find('}', i);
      if (end == std::string_view::npos) {
        Fail("Single '{' encountered in format string");
      }
      const std::string_view name = format.substr(i + 1, end - i - 1);
      if (name.find_first_of("!:.[{") != std::string_view::npos) {
        FailSpecifier(format);
      }
      out += Str(Field(name, args, &next));
      i = end;
    }
  }
  return out;
}

}  // namespace mach::jinja
