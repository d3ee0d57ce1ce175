// Hashing: XXH3 (xxHash). Not cryptographic; used for checksums, fingerprints and cache keys.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace mach {

uint64_t Hash64(std::span<const std::byte> bytes, uint64_t seed = 0);

// 128-bit XXH3 as 32 lower-case hex digits.
std::string HashHex128(std::span<const std::byte> bytes);

// The same digest of bytes that come in pieces. One thread at a time.
class Hasher128 {
 public:
  Hasher128();
  Hasher128(const Hasher128&) = delete;
  Hasher128& operator=(const Hasher128&) = delete;
  Hasher128(Hasher128&&) noexcept;
  Hasher128& operator=(Hasher128&&) noexcept;
  ~Hasher128();

  void Update(std::span<const std::byte> bytes);
  std::string Hex() const;  // of all bytes since the last Reset
  void Reset();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace mach
