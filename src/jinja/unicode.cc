#include "jinja/unicode.h"

#include <algorithm>
#include <array>
#include <span>

#include "jinja/unicode_tables.h"

namespace mach::jinja {

namespace {

constexpr char32_t kReplacement = 0xFFFD;
constexpr char32_t kCapitalSigma = 0x3A3;
constexpr char32_t kFinalSigma = 0x3C2;

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

uint16_t FindMask(char32_t c) {
  const std::span<const ClassRange> ranges = ClassRanges();
  const auto range =
      std::lower_bound(ranges.begin(), ranges.end(), c,
                       [](const ClassRange& r, char32_t value) { return r.last < value; });
  return range != ranges.end() && range->first <= c ? range->mask : 0;
}

uint16_t Mask(char32_t c) {
  static const std::array<uint16_t, 128> kAsciiMasks = [] {
    std::array<uint16_t, 128> table{};
    for (char32_t i = 0; i < table.size(); ++i) {
      table[i] = FindMask(i);
    }
    return table;
  }();
  return c < kAsciiMasks.size() ? kAsciiMasks[c] : FindMask(c);
}

struct CaseTable {
  std::span<const CaseRun> runs;
  std::span<const CaseSpecial> special;
};

CaseTable UpperTable() {
  return {UpperRuns(), UpperSpecial()};
}
CaseTable LowerTable() {
  return {LowerRuns(), LowerSpecial()};
}
CaseTable TitleTable() {
  return {TitleRuns(), TitleSpecial()};
}
CaseTable FoldTable() {
  return {FoldRuns(), FoldSpecial()};
}

void AppendMapped(const CaseTable& table, char32_t c, std::string* out) {
  const auto special =
      std::lower_bound(table.special.begin(), table.special.end(), c,
                       [](const CaseSpecial& s, char32_t value) { return s.code_point < value; });
  if (special != table.special.end() && special->code_point == c) {
    for (const uint32_t to : special->to) {
      if (to != 0) {
        AppendUtf8(to, out);
      }
    }
    return;
  }
  const auto run =
      std::lower_bound(table.runs.begin(), table.runs.end(), c,
                       [](const CaseRun& r, char32_t value) { return r.last < value; });
  const bool mapped =
      run != table.runs.end() && run->first <= c && (c - run->first) % run->step == 0;
  AppendUtf8(mapped ? static_cast<char32_t>(static_cast<int32_t>(c) + run->offset) : c, out);
}

// Unicode's Final_Sigma condition: after a cased letter and not before one.
bool IsFinalSigma(std::string_view text, size_t offset, size_t size) {
  size_t before = offset;
  bool cased_before = false;
  while (before > 0) {
    const CodePoint c = DecodeBefore(text, before);
    before -= c.size_bytes;
    if ((Mask(c.value) & kCaseIgnorableBit) == 0) {
      cased_before = (Mask(c.value) & kCasedBit) != 0;
      break;
    }
  }
  if (!cased_before) {
    return false;
  }
  for (size_t after = offset + size; after < text.size();) {
    const CodePoint c = DecodeAt(text, after);
    after += c.size_bytes;
    if ((Mask(c.value) & kCaseIgnorableBit) == 0) {
      return (Mask(c.value) & kCasedBit) == 0;
    }
  }
  return true;
}

void AppendLower(std::string_view text, size_t offset, const CodePoint& c, std::string* out) {
  if (c.value == kCapitalSigma && IsFinalSigma(text, offset, c.size_bytes)) {
    AppendUtf8(kFinalSigma, out);
  } else {
    AppendMapped(LowerTable(), c.value, out);
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
  return (Mask(c) & kSpaceBit) != 0;
}
bool IsPrintable(char32_t c) {
  return (Mask(c) & kPrintableBit) != 0;
}
bool IsAlpha(char32_t c) {
  return (Mask(c) & kAlphaBit) != 0;
}
bool IsDecimal(char32_t c) {
  return (Mask(c) & kDecimalBit) != 0;
}
bool IsDigit(char32_t c) {
  return (Mask(c) & kDigitBit) != 0;
}
bool IsNumeric(char32_t c) {
  return (Mask(c) & kNumericBit) != 0;
}
bool IsUpper(char32_t c) {
  return (Mask(c) & kUpperBit) != 0;
}
bool IsLower(char32_t c) {
  return (Mask(c) & kLowerBit) != 0;
}
bool IsTitle(char32_t c) {
  return (Mask(c) & kTitleBit) != 0;
}
bool IsIdentifierPart(char32_t c) {
  return (Mask(c) & kIdentifierPartBit) != 0;
}
bool IsIdentifierStart(char32_t c) {
  return (Mask(c) & kIdentifierStartBit) != 0;
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
  return MapEach(text, [](size_t, const CodePoint& c, std::string* out) {
    AppendMapped(UpperTable(), c.value, out);
  });
}

std::string Lower(std::string_view text) {
  return MapEach(text, [text](size_t offset, const CodePoint& c, std::string* out) {
    AppendLower(text, offset, c, out);
  });
}

std::string CaseFold(std::string_view text) {
  return MapEach(text, [](size_t, const CodePoint& c, std::string* out) {
    AppendMapped(FoldTable(), c.value, out);
  });
}

std::string SwapCase(std::string_view text) {
  return MapEach(text, [text](size_t offset, const CodePoint& c, std::string* out) {
    if (IsUpper(c.value)) {
      AppendLower(text, offset, c, out);
    } else if (IsLower(c.value)) {
      AppendMapped(UpperTable(), c.value, out);
    } else {
      AppendUtf8(c.value, out);
    }
  });
}

std::string Capitalize(std::string_view text) {
  return MapEach(text, [text](size_t offset, const CodePoint& c, std::string* out) {
    if (offset == 0) {
      AppendMapped(TitleTable(), c.value, out);
    } else {
      AppendLower(text, offset, c, out);
    }
  });
}

std::string Title(std::string_view text) {
  bool previous_cased = false;
  return MapEach(text, [&](size_t offset, const CodePoint& c, std::string* out) {
    if (previous_cased) {
      AppendLower(text, offset, c, out);
    } else {
      AppendMapped(TitleTable(), c.value, out);
    }
    previous_cased = (Mask(c.value) & kCasedBit) != 0;
  });
}

}  // namespace mach::jinja
