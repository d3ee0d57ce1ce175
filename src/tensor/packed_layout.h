// Where the codes of one affine block lie. Private to packing and the kernels.
//
// A block is one strip (16 outputs) x one input group. Its unit is the quad: 64 bytes, byte 4*o + j
// holding the code of output o and input 4*q + j, which is at once a VNNI operand, half a row pair
// of AVX2, four NEON registers and row q of an AMX tile. Planes hold several quads in one 64-byte
// line:
//   8 bits  line q: quad q
//   4 bits  line p: quad 2p in the low nibbles, quad 2p+1 in the high ones
//   2 bits  line p: quad 4p+i in bits 2i, 2i+1 of each byte
//   1 bit   line p: quad 8p+i in bit i of each byte
// A width is a primary plane with the low bits and, for 3, 5 and 6, a secondary plane with the
// rest:
//   2 = 2, 3 = 2 + 1, 4 = 4, 5 = 4 + 1, 6 = 4 + 2, 8 = 8.
// So 32 inputs (a "sub-block") are a whole number of lines in every plane, and every block is a
// multiple of 64 bytes: planes, then 16 scales, then 16 biases.
//
// Only constants here: files compiled for one instruction set must not emit shared inline code.
#pragma once

#include <cstdint>

namespace mach {

inline constexpr int64_t kLineBytes = 64;
inline constexpr int64_t kSubInputs = 32;  // inputs of a sub-block
inline constexpr int64_t kSubQuads = 8;

template <int kBits>
inline constexpr int kPrimaryBits = kBits == 8 ? 8 : (kBits >= 4 ? 4 : 2);
template <int kBits>
inline constexpr int kSecondaryBits = kBits - kPrimaryBits<kBits>;

// Lines of a plane of `kPlaneBits` bits for one sub-block: 8, 4, 2, 1 (0 for no plane).
template <int kPlaneBits>
inline constexpr int64_t kSubLines = kPlaneBits;

}  // namespace mach
