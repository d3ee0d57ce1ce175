#include "text/unicode.h"

#include <algorithm>
#include <cstring>

namespace mach::text {

UnicodeTable::UnicodeTable() {
  std::vector<uint16_t> flat;
  flat.reserve(0x110000);
  const std::span<const uint32_t> runs = UnicodeRuns();
  for (size_t i = 0; i + 1 < runs.size(); i += 2) {
    flat.insert(flat.end(), runs[i], static_cast<uint16_t>(runs[i + 1]));
  }
  flat.resize(0x110000);
  constexpr size_t kBlock = size_t{1} << kBlockBits;
  for (size_t block = 0; block < blocks_.size(); ++block) {
    const auto begin = flat.begin() + static_cast<std::ptrdiff_t>(block * kBlock);
    const auto end = begin + static_cast<std::ptrdiff_t>(kBlock);
    // Equal blocks are mostly neighbours (Hangul, Han, unassigned planes).
    if (block > 0 && std::equal(begin, end, begin - static_cast<std::ptrdiff_t>(kBlock))) {
      blocks_[block] = blocks_[block - 1];
      continue;
    }
    blocks_[block] = static_cast<uint16_t>(values_.size() >> kBlockBits);
    values_.insert(values_.end(), begin, end);
  }
}

const UnicodeTable& UnicodeTable::Get() {
  static const UnicodeTable kTable;
  return kTable;
}

void AppendUtf8(char32_t code, std::string* out) {
  if (code < 0x80) {
    out->push_back(static_cast<char>(code));
  } else if (code < 0x800) {
    out->push_back(static_cast<char>(0xC0 | (code >> 6)));
    out->push_back(static_cast<char>(0x80 | (code & 0x3F)));
  } else if (code < 0x10000) {
    out->push_back(static_cast<char>(0xE0 | (code >> 12)));
    out->push_back(static_cast<char>(0x80 | ((code >> 6) & 0x3F)));
    out->push_back(static_cast<char>(0x80 | (code & 0x3F)));
  } else {
    out->push_back(static_cast<char>(0xF0 | (code >> 18)));
    out->push_back(static_cast<char>(0x80 | ((code >> 12) & 0x3F)));
    out->push_back(static_cast<char>(0x80 | ((code >> 6) & 0x3F)));
    out->push_back(static_cast<char>(0x80 | (code & 0x3F)));
  }
}

namespace {

// Table 3-7 of the Unicode standard: how many bytes follow a lead byte, and the range of the first.
struct LeadByte {
  uint32_t following;
  uint8_t first_low;
  uint8_t first_high;
};

LeadByte ClassifyLead(uint8_t lead) {
  if (lead >= 0xC2 && lead <= 0xDF) {
    return {1, 0x80, 0xBF};
  }
  if (lead >= 0xE0 && lead <= 0xEF) {
    const uint8_t low = lead == 0xE0 ? 0xA0 : 0x80;
    const uint8_t high = lead == 0xED ? 0x9F : 0xBF;
    return {2, low, high};
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    const uint8_t low = lead == 0xF0 ? 0x90 : 0x80;
    const uint8_t high = lead == 0xF4 ? 0x8F : 0xBF;
    return {3, low, high};
  }
  return {0, 0, 0};
}

}  // namespace

BrokenUtf8 ClassifyBrokenUtf8(std::string_view text) {
  const LeadByte lead = ClassifyLead(static_cast<uint8_t>(text[0]));
  if (lead.following == 0) {
    return {1, false};
  }
  size_t size = 1;
  while (size < text.size() && size <= lead.following) {
    const auto byte = static_cast<uint8_t>(text[size]);
    const bool fits =
        size == 1 ? (byte >= lead.first_low && byte <= lead.first_high) : (byte & 0xC0) == 0x80;
    if (!fits) {
      return {size, false};
    }
    ++size;
  }
  return {size, size == text.size()};
}

size_t ValidUtf8Prefix(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    if (text.size() - at >= 8) {
      uint64_t word = 0;
      std::memcpy(&word, text.data() + at, sizeof(word));
      if ((word & 0x8080808080808080ULL) == 0) {
        at += 8;
        continue;
      }
    }
    const auto byte = static_cast<uint8_t>(text[at]);
    if (byte < 0x80) {
      ++at;
      continue;
    }
    const LeadByte lead = ClassifyLead(byte);
    if (lead.following == 0 || text.size() - at <= lead.following) {
      return at;
    }
    const auto first = static_cast<uint8_t>(text[at + 1]);
    if (first < lead.first_low || first > lead.first_high) {
      return at;
    }
    for (uint32_t i = 2; i <= lead.following; ++i) {
      if ((static_cast<uint8_t>(text[at + i]) & 0xC0) != 0x80) {
        return at;
      }
    }
    at += lead.following + 1;
  }
  return at;
}

void AppendReplacingBroken(std::string_view text, std::string* out) {
  while (!text.empty()) {
    const size_t valid = ValidUtf8Prefix(text);
    out->append(text.substr(0, valid));
    text.remove_prefix(valid);
    if (!text.empty()) {
      AppendUtf8(kReplacementChar, out);
      text.remove_prefix(ClassifyBrokenUtf8(text).size);
    }
  }
}

}  // namespace mach::text
