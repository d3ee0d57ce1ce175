// Code points, and the character properties that Python's str methods ask for, by the tables of
// utf8proc. Case is mapped character by character: unlike Python's, upper case expands only "ß",
// and lower case knows no final sigma.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace mach::jinja {

struct CodePoint {
  char32_t value = 0;
  int size_bytes = 1;
};

// The code point at `offset`. The text must be valid UTF-8 (see ToValidUtf8).
CodePoint DecodeAt(std::string_view text, size_t offset);
// The code point that ends right before `offset` (> 0).
CodePoint DecodeBefore(std::string_view text, size_t offset);
void AppendUtf8(char32_t code_point, std::string* out);
bool IsValidUtf8(std::string_view text);
// Every byte that belongs to no well-formed sequence becomes U+FFFD.
std::string ToValidUtf8(std::string_view text);
int64_t CountCodePoints(std::string_view text);
// Byte offset of code point number `index`; text.size() if there are not that many.
size_t OffsetOf(std::string_view text, int64_t index);

bool IsSpace(char32_t c);      // str.isspace
bool IsPrintable(char32_t c);  // str.isprintable
bool IsUpper(char32_t c);
bool IsLower(char32_t c);
bool IsTitle(char32_t c);
bool IsAlpha(char32_t c);    // str.isalpha
bool IsDigit(char32_t c);    // a decimal digit of any script
bool IsNumeric(char32_t c);  // a digit, fraction, numeral ...
bool IsIdentifierPart(char32_t c);
bool IsIdentifierStart(char32_t c);

// str.isupper, str.islower: all cased characters are, and there is one.
bool IsCased(std::string_view text, bool upper);

std::string Upper(std::string_view text);
std::string Lower(std::string_view text);
std::string Capitalize(std::string_view text);
std::string Title(std::string_view text);

}  // namespace mach::jinja
