#include "decode/noise.h"

#include "base/portable_math.h"

namespace mach::decode {
namespace {

uint64_t Mix64(uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

// As kernels::NoiseKey defines it.
uint32_t Bits(const kernels::NoiseKey& key, int32_t token) {
  uint32_t x = static_cast<uint32_t>(token) ^ key.first;
  x = (x ^ (x >> 16)) * 0x85ebca6bU;
  x = x ^ key.second;
  x = (x ^ (x >> 13)) * 0xc2b2ae35U;
  return x ^ (x >> 16);
}

kernels::NoiseKey Halves(uint64_t x) {
  return {.first = static_cast<uint32_t>(x), .second = static_cast<uint32_t>(x >> 32)};
}

}  // namespace

GumbelNoise::GumbelNoise(int64_t seed, int64_t position) {
  const uint64_t key = Mix64(Mix64(static_cast<uint64_t>(seed)) ^ static_cast<uint64_t>(position));
  upper_ = Halves(key);
  lower_ = Halves(Mix64(key));
}

double GumbelNoise::operator()(int32_t token) const {
  const uint64_t bits = (uint64_t{Bits(upper_, token)} << 20) | (Bits(lower_, token) >> 12);
  const double u = (static_cast<double>(bits) + 0.5) * 0x1p-52;
  return -PortableLog(-PortableLog(u));
}

}  // namespace mach::decode
