// UTF-8 and what Hugging Face `tokenizers` knows about code points (categories as in Unicode 16,
// its regular expressions' version). Not a general Unicode library: normalisation is in
// normalizer.h. Everything here is immutable or pure: any thread may call it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mach::text {

// General categories, in the order that the generated table uses.
enum class Category : uint8_t {
  kCn,
  kLu,
  kLl,
  kLt,
  kLm,
  kLo,
  kMn,
  kMc,
  kMe,
  kNd,
  kNl,
  kNo,
  kPc,
  kPd,
  kPs,
  kPe,
  kPi,
  kPf,
  kPo,
  kSm,
  kSc,
  kSk,
  kSo,
  kZs,
  kZl,
  kZp,
  kCc,
  kCf,
  kCs,
  kCo,
};

constexpr uint32_t CategoryBit(Category category) {
  return 1U << static_cast<uint32_t>(category);
}

constexpr uint32_t kLowerLetters = CategoryBit(Category::kLl);
constexpr uint32_t kOtherLetters = CategoryBit(Category::kLm) | CategoryBit(Category::kLo);
constexpr uint32_t kUpperLetters = CategoryBit(Category::kLu) | CategoryBit(Category::kLt);
constexpr uint32_t kLetters = kLowerLetters | kOtherLetters | kUpperLetters;
constexpr uint32_t kMarks =
    CategoryBit(Category::kMn) | CategoryBit(Category::kMc) | CategoryBit(Category::kMe);
constexpr uint32_t kNumbers =
    CategoryBit(Category::kNd) | CategoryBit(Category::kNl) | CategoryBit(Category::kNo);
constexpr uint32_t kPunctuation = CategoryBit(Category::kPc) | CategoryBit(Category::kPd) |
                                  CategoryBit(Category::kPs) | CategoryBit(Category::kPe) |
                                  CategoryBit(Category::kPi) | CategoryBit(Category::kPf) |
                                  CategoryBit(Category::kPo);
constexpr uint32_t kSymbols = CategoryBit(Category::kSm) | CategoryBit(Category::kSc) |
                              CategoryBit(Category::kSk) | CategoryBit(Category::kSo);

// The generated data: pairs of run length and value, from U+0000 up.
std::span<const uint32_t> UnicodeRuns();

// Properties of one code point, packed as tools/gen_unicode_table.py packs them.
class CharInfo {
 public:
  explicit constexpr CharInfo(uint16_t bits) : bits_(bits) {}

  // Is the general category one of `categories` (an or of CategoryBit)?
  bool In(uint32_t categories) const { return ((1U << (bits_ & 31U)) & categories) != 0; }
  bool IsSpace() const { return (bits_ & (1U << 5)) != 0; }      // \s, White_Space
  bool IsWord() const { return (bits_ & (1U << 6)) != 0; }       // \w
  bool IsNumeric() const { return (bits_ & (1U << 7)) != 0; }    // Rust's char::is_numeric
  bool IsDelimiter() const { return (bits_ & (1U << 8)) != 0; }  // what Punctuation splits at
  bool IsInert() const { return (bits_ & (1U << 9)) != 0; }      // unknown to normalisation
  bool MayCompose() const { return (bits_ & (1U << 10)) != 0; }  // NFC may touch it
  bool IsHan() const { return (bits_ & (1U << 11)) != 0; }       // \p{Han}

 private:
  uint16_t bits_;
};

class UnicodeTable {
 public:
  static const UnicodeTable& Get();

  CharInfo operator[](char32_t c) const {
    return CharInfo(
        values_[(static_cast<size_t>(blocks_[c >> kBlockBits]) << kBlockBits) | (c & kBlockMask)]);
  }

 private:
  static constexpr uint32_t kBlockBits = 8;
  static constexpr uint32_t kBlockMask = (1U << kBlockBits) - 1;

  UnicodeTable();

  std::array<uint16_t, (0x110000 >> kBlockBits)> blocks_{};
  std::vector<uint16_t> values_;
};

constexpr char32_t kReplacementChar = 0xFFFD;

struct DecodedChar {
  char32_t code;
  uint32_t size;  // bytes
};

// The character at `at`; the text must be valid UTF-8 and `at` inside it, at a boundary.
inline DecodedChar DecodeAt(const char* at) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(at);
  const uint32_t lead = bytes[0];
  if (lead < 0x80) {
    return {lead, 1};
  }
  if (lead < 0xE0) {
    return {((lead & 0x1FU) << 6) | (bytes[1] & 0x3FU), 2};
  }
  if (lead < 0xF0) {
    return {((lead & 0x0FU) << 12) | ((bytes[1] & 0x3FU) << 6) | (bytes[2] & 0x3FU), 3};
  }
  return {((lead & 0x07U) << 18) | ((bytes[1] & 0x3FU) << 12) | ((bytes[2] & 0x3FU) << 6) |
              (bytes[3] & 0x3FU),
          4};
}

void AppendUtf8(char32_t code, std::string* out);

// Length of the longest prefix that is valid UTF-8.
size_t ValidUtf8Prefix(std::string_view text);

// What stands at the front of `text`, which is not empty and does not begin with a valid character.
// `size` bytes are one broken sequence (the "maximal subpart" of the Unicode standard, as Python's
// and Rust's replacing decoders cut it); `incomplete`: it could still become a character if bytes
// followed.
struct BrokenUtf8 {
  size_t size;
  bool incomplete;
};
BrokenUtf8 ClassifyBrokenUtf8(std::string_view text);

// Appends `text` with every broken sequence replaced by U+FFFD.
void AppendReplacingBroken(std::string_view text, std::string* out);

}  // namespace mach::text
