// Filters that make text.
#include <algorithm>
#include <array>

#include "jinja/arguments.h"
#include "jinja/filters.h"
#include "jinja/interpreter.h"
#include "jinja/repr.h"
#include "jinja/text_ops.h"
#include "jinja/unicode.h"

namespace mach::jinja {

std::string EscapeHtml(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '\'':
        out += "&#39;";
        break;
      case '"':
        out += "&#34;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

namespace {

bool IsMarkup(const Value& value) {
  return value.IsString() && value.String().markup;
}

Value Like(const Value& input, std::string text) {
  return Value::String(std::move(text), IsMarkup(input));
}

template <std::string (*Map)(std::string_view)>
Value Mapped(Interpreter&, const Value& input, CallArgs& args) {
  RequireNoArguments("filter", args);
  return Like(input, Map(Str(input)));
}

// Capitalises after spaces, brackets and hyphens only, unlike str.title.
std::string TitleWords(std::string_view text) {
  std::string out;
  std::string word;
  const auto flush = [&] {
    if (!word.empty()) {
      const int first = DecodeAt(word, 0).size_bytes;
      out += Upper(std::string_view(word).substr(0, first));
      out += Lower(std::string_view(word).substr(first));
      word.clear();
    }
  };
  static constexpr std::string_view kBreaks = "-({[<";
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = DecodeAt(text, i);
    const std::string_view piece = text.substr(i, c.size_bytes);
    if (IsSpace(c.value) || (c.value < 0x80 && kBreaks.find(piece[0]) != std::string_view::npos)) {
      flush();
      out += piece;
    } else {
      word += piece;
    }
    i += c.size_bytes;
  }
  flush();
  return out;
}

Value TrimFilter(Interpreter&, const Value& input, CallArgs& args) {
  const BoundArgs bound("trim", args, {"chars"});
  std::optional<std::string> characters;
  if (bound.Has(0) && !bound[0].IsNone()) {
    characters = bound.Text(0);
  }
  const std::string text = Str(input);
  return Like(input, std::string(Strip(text, characters, Side::kBoth)));
}

Value ReplaceFilter(Interpreter&, const Value& input, CallArgs& args) {
  const BoundArgs bound("replace", args, {"old", "new", "count"}, 2);
  const int64_t count = bound.Has(2) && !bound[2].IsNone() ? bound.Integer(2) : -1;
  const std::string text = Str(input);
  return Value::String(Replace(text, Str(bound[0]), Str(bound[1]), count));
}

Value StringFilter(Interpreter&, const Value& input, CallArgs& args) {
  RequireNoArguments("string", args);
  return input.IsString() ? input : Value::String(Str(input));
}

Value SafeFilter(Interpreter&, const Value& input, CallArgs& args) {
  RequireNoArguments("safe", args);
  return Value::String(Str(input), true);
}

Value EscapeFilter(Interpreter&, const Value& input, CallArgs& args) {
  RequireNoArguments("escape", args);
  return IsMarkup(input) ? input : Value::String(EscapeHtml(Str(input)), true);
}

Value IndentFilter(Interpreter&, const Value& input, CallArgs& args) {
  const BoundArgs bound("indent", args, {"width", "first", "blank"});
  std::string indention;
  if (bound.Has(0) && bound[0].IsString()) {
    indention = bound[0].Text();
  } else {
    indention = Spaces(bound.Integer(0, 4));
  }
  if (!input.IsString()) {
    if (input.IsUndefined()) {
      Fail(input.Get<UndefinedObject>().Message());
    }
    Fail(std::string("indent: unsupported operand type(s) for +=: '") + TypeName(input) +
         "' and 'str'");
  }
  const std::vector<std::string> lines = SplitLines(input.Text() + "\n", false);
  const bool blank = bound.Flag(2);
  std::string out = bound.Flag(1) ? indention : "";
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) {
      out += '\n';
      if (blank || !lines[i].empty()) {
        out += indention;
      }
    }
    out += lines[i];
    if (static_cast<int64_t>(out.size()) > kMaxStringBytes) {
      break;  // the caller charges for the result and refuses it
    }
  }
  return Like(input, std::move(out));
}

Value JoinFilter(Interpreter& interpreter, const Value& input, CallArgs& args) {
  const BoundArgs bound("join", args, {"d", "attribute"});
  const std::string separator = bound.Has(0) ? Str(bound[0]) : "";
  const bool attribute = bound.Has(1) && !bound[1].IsNone();
  std::string out;
  bool first = true;
  Iterator iterator(input);
  while (const std::optional<Value> item = iterator.Next()) {
    interpreter.Charge(1);
    if (!first) {
      out += separator;
    }
    first = false;
    out += Str(attribute ? LookupPath(interpreter, *item, bound[1]) : *item);
    if (static_cast<int64_t>(out.size()) > kMaxStringBytes) {
      break;  // as above
    }
  }
  return Value::String(std::move(out));
}

Value ToJsonFilter(Interpreter&, const Value& input, CallArgs& args) {
  const BoundArgs bound("tojson", args, {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ensure_ascii = bound.Flag(0);
  style.sort_keys = bound.Flag(3);
  if (bound.Has(1) && !bound[1].IsNone()) {
    style.indent = bound[1].IsString() ? bound[1].Text() : Spaces(bound.Integer(1));
    style.item_separator = ",";
  }
  if (bound.Has(2) && !bound[2].IsNone()) {
    const std::vector<Value> separators = ToVector(bound[2]);
    if (separators.size() != 2 || !separators[0].IsString() || !separators[1].IsString()) {
      Fail("tojson: separators must be two strings");
    }
    style.item_separator = separators[0].Text();
    style.key_separator = separators[1].Text();
  }
  return Value::String(DumpJson(input, style));
}

constexpr auto kFilters = std::to_array<FilterEntry>({
    {"capitalize", Mapped<Capitalize>},
    {"e", EscapeFilter},
    {"escape", EscapeFilter},
    {"indent", IndentFilter},
    {"join", JoinFilter},
    {"lower", Mapped<Lower>},
    {"replace", ReplaceFilter},
    {"safe", SafeFilter},
    {"string", StringFilter},
    {"title", Mapped<TitleWords>},
    {"tojson", ToJsonFilter},
    {"trim", TrimFilter},
    {"upper", Mapped<Upper>},
});

}  // namespace

const FilterEntry* FindTextFilter(std::string_view name) {
  const auto* it = std::find_if(kFilters.begin(), kFilters.end(),
                                [name](const FilterEntry& entry) { return entry.name == name; });
  return it == kFilters.end() ? nullptr : &*it;
}

}  // namespace mach::jinja
