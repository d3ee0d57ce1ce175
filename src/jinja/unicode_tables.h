// The tables behind unicode.h. Sorted by code point.
#pragma once

#include <cstdint>
#include <span>

namespace mach::jinja {

// Bits of ClassRange::mask, in the order of FLAGS in tools/gen_jinja_unicode.py.
enum ClassBit : uint16_t {
  kSpaceBit = 1 << 0,
  kPrintableBit = 1 << 1,
  kAlphaBit = 1 << 2,
  kDecimalBit = 1 << 3,
  kDigitBit = 1 << 4,
  kNumericBit = 1 << 5,
  kUpperBit = 1 << 6,
  kLowerBit = 1 << 7,
  kTitleBit = 1 << 8,
  kIdentifierPartBit = 1 << 9,
  kIdentifierStartBit = 1 << 10,
  kCasedBit = 1 << 11,
  kCaseIgnorableBit = 1 << 12,
};

struct ClassRange {
  uint32_t first;
  uint32_t last;
  uint16_t mask;
};

// Every `step`-th code point of [first, last] maps to itself plus `offset`.
struct CaseRun {
  uint32_t first;
  uint32_t last;
  uint32_t step;
  int32_t offset;
};

// One code point that maps to several; unused places are 0.
struct CaseSpecial {
  uint32_t code_point;
  uint32_t to[3];
};

std::span<const ClassRange> ClassRanges();
std::span<const CaseRun> UpperRuns();
std::span<const CaseSpecial> UpperSpecial();
std::span<const CaseRun> LowerRuns();
std::span<const CaseSpecial> LowerSpecial();
std::span<const CaseRun> TitleRuns();
std::span<const CaseSpecial> TitleSpecial();
std::span<const CaseRun> FoldRuns();
std::span<const CaseSpecial> FoldSpecial();

}  // namespace mach::jinja
