#include "base/hash.h"

#include <cstdio>
#include <new>

#include <xxhash.h>

namespace mach {
namespace {

std::string HexDigits(const XXH128_hash_t& hash) {
  char text[33];
  std::snprintf(text, sizeof(text), "%016llx%016llx", static_cast<unsigned long long>(hash.high64),
                static_cast<unsigned long long>(hash.low64));
  return text;
}

}  // namespace

uint64_t Hash64(std::span<const std::byte> bytes, uint64_t seed) {
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

std::string HashHex128(std::span<const std::byte> bytes) {
  return HexDigits(XXH3_128bits(bytes.data(), bytes.size()));
}

struct Hasher128::State {
  State() : xxh(XXH3_createState()) {
    if (xxh == nullptr) {
      throw std::bad_alloc();
    }
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() { XXH3_freeState(xxh); }

  XXH3_state_t* xxh;
};

Hasher128::Hasher128() : state_(std::make_unique<State>()) {
  Reset();
}

Hasher128::Hasher128(Hasher128&&) noexcept = default;
Hasher128& Hasher128::operator=(Hasher128&&) noexcept = default;
Hasher128::~Hasher128() = default;

void Hasher128::Update(std::span<const std::byte> bytes) {
  XXH3_128bits_update(state_->xxh, bytes.data(), bytes.size());
}

std::string Hasher128::Hex() const {
  return HexDigits(XXH3_128bits_digest(state_->xxh));
}

void Hasher128::Reset() {
  XXH3_128bits_reset(state_->xxh);
}

}  // namespace mach
