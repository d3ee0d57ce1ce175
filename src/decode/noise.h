// The random number of a token at a position, which decides draws.
//
// A draw takes the token with the largest logit / temperature + noise: with Gumbel noise that is a
// draw from the softmax. Noise is a function of (seed, position, token), so a draw depends neither
// on order nor on what was drawn before, and a drafter that adds the same noise to logits of its
// own mostly proposes the token that will be drawn. All integers are unsigned and wrap:
//
//   Mix64(x):  x += 0x9e3779b97f4a7c15;  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
//              x = (x ^ x >> 27) * 0x94d049bb133111eb;  x ^ x >> 31      (splitmix64)
//   k1 = Mix64(Mix64(seed) ^ position);  k2 = Mix64(k1)
//   upper, lower = the 32 bits that kernels::NoiseKey defines, with the keys (first, second) =
//                  (low, high half) of k1 for upper and of k2 for lower
//   u = (upper * 2^20 + (lower >> 12) + 1/2) / 2^52        (52 random bits, never 0 or 1)
//   noise = -log(-log(u))                                  (PortableLog; from -3.6 to 36.8)
//
// Pure; any thread.
#pragma once

#include <cstdint>

#include "kernels/kernels.h"

namespace mach::decode {

class GumbelNoise {
 public:
  GumbelNoise(int64_t seed, int64_t position);

  double operator()(int32_t token) const;

  // The key of `upper`, from which kernels bound the noise.
  const kernels::NoiseKey& upper_key() const { return upper_; }

 private:
  kernels::NoiseKey upper_;
  kernels::NoiseKey lower_;
};

}  // namespace mach::decode
