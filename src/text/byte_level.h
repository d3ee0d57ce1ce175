// The byte-level alphabet of GPT-2: every byte has a printable character of its own.
// (Radford et al. 2019; the map of `bytes_to_unicode` in the published encoder.) Pure functions.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace mach::text {

// The character that stands for each byte.
const std::array<char32_t, 256>& ByteLevelChars();
// The byte that `code` stands for, or -1.
int ByteOfByteLevelChar(char32_t code);

void AppendByteLevel(std::string_view bytes, std::string* out);

}  // namespace mach::text
