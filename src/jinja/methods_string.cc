// Methods of str.
#include <algorithm>
#include <array>
#include <functional>

#include "jinja/arguments.h"
#include "jinja/filters.h"
#include "jinja/interpreter.h"
#include "jinja/methods.h"
#include "jinja/operators.h"
#include "jinja/repr.h"
#include "jinja/text_ops.h"
#include "jinja/unicode.h"

namespace mach::jinja {

namespace {

// A new string that is markup if `self` was.
Value Like(const Value& self, std::string text) {
  return Value::String(std::move(text), self.String().markup);
}

Value ToList(std::vector<std::string> parts) {
  std::vector<Value> items;
  items.reserve(parts.size());
  for (std::string& part : parts) {
    items.push_back(Value::String(std::move(part)));
  }
  return Value::List(std::move(items));
}

void NoArguments(std::string_view name, const CallArgs& args) {
  RequireNoArguments(name, args);
}

template <std::string (*Map)(std::string_view)>
Value Mapped(Interpreter&, const Value& self, CallArgs& args) {
  NoArguments("method", args);
  return Like(self, Map(self.Text()));
}

template <Side kSide>
Value StripMethod(Interpreter&, const Value& self, CallArgs& args) {
  if (!args.keyword.empty()) {
    Fail("str.strip() takes no keyword arguments");
  }
  const BoundArgs bound("strip", args, {"chars"});
  std::optional<std::string> characters;
  if (bound.Has(0) && !bound[0].IsNone()) {
    characters = bound.Text(0);
  }
  return Like(self, std::string(Strip(self.Text(), characters, kSide)));
}

template <bool kFromRight>
Value SplitMethod(Interpreter&, const Value& self, CallArgs& args) {
  const BoundArgs bound("split", args, {"sep", "maxsplit"});
  std::optional<std::string> separator;
  if (bound.Has(0) && !bound[0].IsNone()) {
    separator = bound.Text(0);
    if (separator->empty()) {
      Fail("empty separator");
    }
  }
  return ToList(Split(self.Text(), separator, bound.Integer(1, -1), kFromRight));
}

Value SplitLinesMethod(Interpreter&, const Value& self, CallArgs& args) {
  const BoundArgs bound("splitlines", args, {"keepends"});
  return ToList(SplitLines(self.Text(), bound.Flag(0)));
}

template <bool kFromRight>
Value PartitionMethod(Interpreter&, const Value& self, CallArgs& args) {
  const BoundArgs bound("partition", args, {"sep"}, 1);
  const std::string separator = bound.Text(0);
  if (separator.empty()) {
    Fail("empty separator");
  }
  const std::string& text = self.Text();
  const size_t at = kFromRight ? text.rfind(separator) : text.find(separator);
  const auto part = [](std::string piece) { return Value::String(std::move(piece)); };
  if (at == std::string::npos) {
    return kFromRight ? Value::Tuple({part(""), part(""), part(text)})
                      : Value::Tuple({part(text), part(""), part("")});
  }
  return Value::Tuple(
      {part(text.substr(0, at)), part(separator), part(text.substr(at + separator.size()))});
}

// The byte range that optional start and end arguments (code points) select; `empty` when start
// lies behind the text.
struct Window {
  size_t begin = 0;
  size_t end = 0;
  int64_t first = 0;
  bool valid = true;
};

Window SelectWindow(const Value& self, const BoundArgs& bound, size_t start_index) {
  const int64_t length = self.String().length;
  const auto position = [&](size_t index, int64_t fallback) {
    if (!bound.Has(index) || bound[index].IsNone()) {
      return fallback;
    }
    const int64_t value = bound.Integer(index);
    return value < 0 ? std::max<int64_t>(value < -length ? 0 : value + length, 0) : value;
  };
  Window window;
  window.first = position(start_index, 0);
  const int64_t last = std::min(position(start_index + 1, length), length);
  if (window.first > last) {
    window.valid = false;
    return window;
  }
  window.begin = OffsetOf(self.Text(), window.first);
  window.end = OffsetOf(self.Text(), last);
  return window;
}

template <bool kFromRight>
int64_t Find(const Value& self, const CallArgs& args) {
  const BoundArgs bound("find", args, {"sub", "start", "end"}, 1);
  const std::string needle = bound.Text(0);
  const Window window = SelectWindow(self, bound, 1);
  if (!window.valid) {
    return -1;
  }
  const std::string_view text =
      std::string_view(self.Text()).substr(window.begin, window.end - window.begin);
  const size_t at = kFromRight ? text.rfind(needle) : text.find(needle);
  return at == std::string_view::npos ? -1 : window.first + CountCodePoints(text.substr(0, at));
}

template <bool kFromRight>
Value FindTextMethod(Interpreter&, const Value& self, CallArgs& args) {
  return Value::Int(Find<kFromRight>(self, args));
}

template <bool kFromRight>
Value IndexMethod(Interpreter&, const Value& self, CallArgs& args) {
  const int64_t index = Find<kFromRight>(self, args);
  if (index < 0) {
    Fail("substring not found");
  }
  return Value::Int(index);
}

Value CountMethod(Interpreter&, const Value& self, CallArgs& args) {
  const BoundArgs bound("count", args, {"sub", "start", "end"}, 1);
  const std::string needle = bound.Text(0);
  const Window window = SelectWindow(self, bound, 1);
  if (!window.valid) {
    return Value::Int(0);
  }
  const std::string_view text =
      std::string_view(self.Text()).substr(window.begin, window.end - window.begin);
  if (needle.empty()) {
    return Value::Int(CountCodePoints(text) + 1);
  }
  int64_t count = 0;
  for (size_t at = text.find(needle); at != std::string_view::npos;
       at = text.find(needle, at + needle.size())) {
    ++count;
  }
  return Value::Int(count);
}

template <bool kEnd>
Value AffixMethod(Interpreter&, const Value& self, CallArgs& args) {
  const BoundArgs bound(kEnd ? "endswith" : "startswith", args, {"prefix", "start", "end"}, 1);
  const Window window = SelectWindow(self, bound, 1);
  const std::string_view text =
      window.valid ? std::string_view(self.Text()).substr(window.begin, window.end - window.begin)
                   : std::string_view();
  const auto matches = [&](const Value& affix) {
    if (!affix.IsString()) {
      Fail(std::string(kEnd ? "endswith" : "startswith") +
           " first arg must be str or a tuple of str, not " + TypeName(affix));
    }
    return window.valid && (kEnd ? text.ends_with(affix.Text()) : text.starts_with(affix.Text()));
  };
  if (bound[0].Is(Kind::kTuple)) {
    const auto& affixes = bound[0].Items();
    return Value::Bool(std::any_of(affixes.begin(), affixes.end(), matches));
  }
  return Value::Bool(matches(bound[0]));
}

template <bool kSuffix>
Value RemoveAffixMethod(Interpreter&, const Value& self, CallArgs& args) {
  const BoundArgs bound("removeprefix", args, {"affix"}, 1);
  const std::string affix = bound.Text(0);
  const std::string& text = self.Text();
  if (kSuffix) {
    return Like(self, !affix.empty() && text.ends_with(affix)
                          ? text.substr(0, text.size() - affix.size())
                          : text);
  }
  return Like(self, text.starts_with(affix) ? text.substr(affix.size()) : text);
}

Value ReplaceMethod(Interpreter&, const Value& self, CallArgs& args) {
  if (!args.keyword.empty()) {
    Fail("str.replace() takes no keyword arguments");
  }
  const BoundArgs bound("replace", args, {"old", "new", "count"}, 2);
  const std::string from = bound.Text(0);
  const std::string to = bound.Text(1);
  return Like(self, Replace(self.Text(), from, to, bound.Integer(2, -1)));
}

Value JoinMethod(Interpreter&, const Value& self, CallArgs& args) {
  const BoundArgs bound("join", args, {"iterable"}, 1);
  std::string out;
  bool first = true;
  Iterator iterator(bound[0]);
  int64_t index = 0;
  while (const std::optional<Value> item = iterator.Next()) {
    if (!item->IsString()) {
      Fail("sequence item " + std::to_string(index) + ": expected str instance, " +
           TypeName(*item) + " found");
    }
    if (!first) {
      out += self.Text();
    }
    first = false;
    out += item->Text();
    ++index;
    if (static_cast<int64_t>(out.size()) > kMaxStringBytes) {
      break;  // the caller charges for the result and refuses it
    }
  }
  return Value::String(std::move(out));
}

// All characters pass, and there is at least one.
template <bool (*Predicate)(char32_t)>
Value AllMethod(Interpreter&, const Value& self, CallArgs& args) {
  NoArguments("method", args);
  const std::string& text = self.Text();
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = DecodeAt(text, i);
    if (!Predicate(c.value)) {
      return Value::Bool(false);
    }
    i += c.size_bytes;
  }
  return Value::Bool(!text.empty());
}

bool IsAlnum(char32_t c) {
  return IsAlpha(c) || IsNumeric(c);
}

template <bool kUpper>
Value IsCaseMethod(Interpreter&, const Value& self, CallArgs& args) {
  NoArguments("islower", args);
  return Value::Bool(IsCased(self.Text(), kUpper));
}

Value FormatMethod(Interpreter&, const Value& self, CallArgs& args) {
  return Like(self, BraceFormat(self.Text(), args));
}

constexpr auto kMethods = std::to_array<Method>({
    {"capitalize", Mapped<Capitalize>},
    {"count", CountMethod},
    {"endswith", AffixMethod<true>},
    {"find", FindTextMethod<false>},
    {"format", FormatMethod},
    {"index", IndexMethod<false>},
    {"isalnum", AllMethod<IsAlnum>},
    {"isalpha", AllMethod<IsAlpha>},
    {"isdigit", AllMethod<IsDigit>},
    {"islower", IsCaseMethod<false>},
    {"isspace", AllMethod<IsSpace>},
    {"isupper", IsCaseMethod<true>},
    {"join", JoinMethod},
    {"lower", Mapped<Lower>},
    {"lstrip", StripMethod<Side::kLeft>},
    {"partition", PartitionMethod<false>},
    {"removeprefix", RemoveAffixMethod<false>},
    {"removesuffix", RemoveAffixMethod<true>},
    {"replace", ReplaceMethod},
    {"rfind", FindTextMethod<true>},
    {"rindex", IndexMethod<true>},
    {"rpartition", PartitionMethod<true>},
    {"rsplit", SplitMethod<true>},
    {"rstrip", StripMethod<Side::kRight>},
    {"split", SplitMethod<false>},
    {"splitlines", SplitLinesMethod},
    {"startswith", AffixMethod<false>},
    {"strip", StripMethod<Side::kBoth>},
    {"title", Mapped<Title>},
    {"upper", Mapped<Upper>},
});

}  // namespace

const Method* FindStringMethod(std::string_view name) {
  const auto* it = std::lower_bound(
      kMethods.begin(), kMethods.end(), name,
      [](const Method& method, std::string_view wanted) { return method.name < wanted; });
  return it != kMethods.end() && it->name == name ? &*it : nullptr;
}

}  // namespace mach::jinja
