// Hashing: XXH3 (xxHash). Not cryptographic; used for checksums, fingerprints and cache keys.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace mach {

uint64_t Hash64(std::span<const std::byte> bytes, uint64_t seed = 0);

// 128-bit XXH3 as 32 lower-case hex digits.
std::string HashHex128(std::span<const std::byte> bytes);

}  // namespace mach
