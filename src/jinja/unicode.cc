#include "jinja/unicode.h"

#include <algorithm>

#include <utf8proc.h>

namespace mach::jinja {

namespace {

constexpr char32_t kReplacement = 0xFFFD;
constexpr char32_t kSharpS = 0xDF;

unsigned char ByteAt(std::string_view text, size_t i) {
  return i < text.size() ? static_cast<unsigned char>(text[i]) : 0;
}

// Size of the well-formed sequence at `i` (RFC 3629), or 0.
int SequenceSize(std::string_view text, size_t i) {
  const auto continuation = [&](size_t k, unsigned char low = 0x80, unsigned char high = 0xBF) {
    return i + k < text.size() && ByteAt(text, i + k) >= low && ByteAt(text, i + k) <= high;
  };
  const unsigned char c = ByteAt(text, i);
  if (c < 0x80) {
    return 1;
  }
  if (c >= 0xC2 && c <= 0xDF) {
    return continuation(1) ? 2 : 0;
  }
  if (c >= 0xE0 && c <= 0xEF) {
    const unsigned char low = c == 0xE0 ? 0xA0 : 0x80;
    const unsigned char high = c == 0xED ? 0x9F : 0xBF;
    return continuation(1, low, high) && continuation(2) ? 3 : 0;
  }
  if (c >= 0xF0 && c <= 0xF4) {
    const unsigned char low = c == 0xF0 ? 0x90 : 0x80;
    const unsigned char high = c == 0xF4 ? 0x8F : 0xBF;
    return continuation(1, low, high) && continuation(2) && continuation(3) ? 4 : 0;
  }
  return 0;
}

utf8proc_category_t CategoryOf(char32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

template <typename... Categories>
bool Is(char32_t c, Categories... categories) {
  const utf8proc_category_t category = CategoryOf(c);
  return ((category == categories) || ...);
}

void AppendUpper(char32_t c, std::string* out) {
  if (c == kSharpS) {
    *out += "SS";
  } else {
    AppendUtf8(static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c))), out);
  }
}

void AppendLower(char32_t c, std::string* out) {
  AppendUtf8(static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))), out);
}

// The first letter of a word: upper case, or title case for the few digraphs that have one.
void AppendTitle(char32_t c, std::string* out) {
  if (c == kSharpS) {
    *out += "Ss";
  } else {
    AppendUtf8(static_cast<char32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(c))), out);
  }
}

template <typename F>
std::string MapEach(std::string_view text, F append) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = DecodeAt(text, i);
    append(i, c, &out);
    i += c.size_bytes;
  }
  return out;
}

}  // namespace

CodePoint DecodeAt(std::string_view text, size_t offset) {
  const unsigned char c = ByteAt(text, offset);
  if (c < 0x80) {
    return {c, 1};
  }
  const auto tail = [&](size_t k) {
    return static_cast<char32_t>(ByteAt(text, offset + k) & 0x3F);
  };
  const int left = static_cast<int>(std::min<size_t>(text.size() - offset, 4));
  if (c < 0xE0) {
    return {((c & 0x1FU) << 6) | tail(1), std::min(2, left)};
  }
  if (c < 0xF0) {
    return {((c & 0x0FU) << 12) | (tail(1) << 6) | tail(2), std::min(3, left)};
  }
  return {((c & 0x07U) << 18) | (tail(1) << 12) | (tail(2) << 6) | tail(3), std::min(4, left)};
}

CodePoint DecodeBefore(std::string_view text, size_t offset) {
  size_t begin = offset - 1;
  while (begin > 0 && offset - begin < 4 && (ByteAt(text, begin) & 0xC0) == 0x80) {
    --begin;
  }
  CodePoint c = DecodeAt(text, begin);
  c.size_bytes = static_cast<int>(offset - begin);
  return c;
}

void AppendUtf8(char32_t c, std::string* out) {
  if (c < 0x80) {
    *out += static_cast<char>(c);
  } else if (c < 0x800) {
    *out += static_cast<char>(0xC0 | (c >> 6));
    *out += static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    *out += static_cast<char>(0xE0 | (c >> 12));
    *out += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    *out += static_cast<char>(0x80 | (c & 0x3F));
  } else {
    *out += static_cast<char>(0xF0 | (c >> 18));
    *out += static_cast<char>(0x80 | ((c >> 12) & 0x3F));
    *out += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    *out += static_cast<char>(0x80 | (c & 0x3F));
  }
}

bool IsValidUtf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const int size = SequenceSize(text, i);
    if (size == 0) {
      return false;
    }
    i += size;
  }
  return true;
}

std::string ToValidUtf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const int size = SequenceSize(text, i);
    if (size == 0) {
      AppendUtf8(kReplacement, &out);
      ++i;
    } else {
      out.append(text, i, size);
      i += size;
    }
  }
  return out;
}

int64_t CountCodePoints(std::string_view text) {
  int64_t count = 0;
  for (const char c : text) {
    count += (static_cast<unsigned char>(c) & 0xC0) != 0x80 ? 1 : 0;
  }
  return count;
}

size_t OffsetOf(std::string_view text, int64_t index) {
  size_t offset = 0;
  while (index > 0 && offset < text.size()) {
    offset += DecodeAt(text, offset).size_bytes;
    --index;
  }
  return offset;
}

bool IsSpace(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0x2028 ||
         c == 0x2029 || (c >= 0x80 && Is(c, UTF8PROC_CATEGORY_ZS));
}

bool IsPrintable(char32_t c) {
  if (c < 0x80) {
    return c >= 0x20 && c < 0x7F;
  }
  return !Is(c, UTF8PROC_CATEGORY_CC, UTF8PROC_CATEGORY_CF, UTF8PROC_CATEGORY_CS,
             UTF8PROC_CATEGORY_CO, UTF8PROC_CATEGORY_CN, UTF8PROC_CATEGORY_ZL, UTF8PROC_CATEGORY_ZP,
             UTF8PROC_CATEGORY_ZS);
}

bool IsUpper(char32_t c) {
  return Is(c, UTF8PROC_CATEGORY_LU);
}

bool IsLower(char32_t c) {
  return Is(c, UTF8PROC_CATEGORY_LL);
}

bool IsTitle(char32_t c) {
  return Is(c, UTF8PROC_CATEGORY_LT);
}

bool IsAlpha(char32_t c) {
  return Is(c, UTF8PROC_CATEGORY_LU, UTF8PROC_CATEGORY_LL, UTF8PROC_CATEGORY_LT,
            UTF8PROC_CATEGORY_LM, UTF8PROC_CATEGORY_LO);
}

bool IsDigit(char32_t c) {
  return Is(c, UTF8PROC_CATEGORY_ND);
}

bool IsNumeric(char32_t c) {
  return Is(c, UTF8PROC_CATEGORY_ND, UTF8PROC_CATEGORY_NL, UTF8PROC_CATEGORY_NO);
}

bool IsIdentifierStart(char32_t c) {
  return c == '_' || IsAlpha(c) || Is(c, UTF8PROC_CATEGORY_NL);
}

bool IsIdentifierPart(char32_t c) {
  return IsIdentifierStart(c) || Is(c, UTF8PROC_CATEGORY_ND, UTF8PROC_CATEGORY_MN,
                                    UTF8PROC_CATEGORY_MC, UTF8PROC_CATEGORY_PC);
}

bool IsCased(std::string_view text, bool upper) {
  bool found = false;
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = DecodeAt(text, i);
    if (IsTitle(c.value) || (upper ? IsLower(c.value) : IsUpper(c.value))) {
      return false;
    }
    found |= upper ? IsUpper(c.value) : IsLower(c.value);
    i += c.size_bytes;
  }
  return found;
}

std::string Upper(std::string_view text) {
  return MapEach(text,
                 [](size_t, const CodePoint& c, std::string* out) { AppendUpper(c.value, out); });
}

std::string Lower(std::string_view text) {
  return MapEach(text,
                 [](size_t, const CodePoint& c, std::string* out) { AppendLower(c.value, out); });
}

std::string Capitalize(std::string_view text) {
  return MapEach(text, [](size_t offset, const CodePoint& c, std::string* out) {
    offset == 0 ? AppendTitle(c.value, out) : AppendLower(c.value, out);
  });
}

std::string Title(std::string_view text) {
  bool inside = false;
  return MapEach(text, [&](size_t, const CodePoint& c, std::string* out) {
    inside ? AppendLower(c.value, out) : AppendTitle(c.value, out);
    inside = IsUpper(c.value) || IsLower(c.value) || IsTitle(c.value);
  });
}

}  // namespace mach::jinja
